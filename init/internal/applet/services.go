package applet

import (
	"fmt"
	"strings"

	"hapax/init/internal/control"
	"hapax/init/internal/klog"
)

// services prints a line for each service, or for the one with a name.
func (c ctl) services(guard *control.Client, name string) error {
	doc, err := guard.Services(name)
	if err != nil {
		return err
	}
	if c.json {
		fmt.Fprintf(c.stdout, "%s\n", doc)
		return nil
	}
	var v map[string]string
	line := func() {
		if v != nil {
			fmt.Fprintln(c.stdout, serviceLine(v))
		}
		v = nil
	}
	last := ""
	err = flatten(doc, func(path, value string) {
		index, key, _ := strings.Cut(path, ".")
		if index != last {
			line()
			last = index
		}
		if v == nil {
			v = map[string]string{}
		}
		v[key] = value
	})
	line()
	return err
}

// serviceLine puts what is known of a service into words.
func serviceLine(v map[string]string) string {
	s := fmt.Sprintf("%-16s %-8s for %s s", v["name"], v["state"], v["seconds"])
	if v["pid"] != "" {
		s += ", process " + v["pid"]
	}
	switch v["starts"] {
	case "0", "1":
	default:
		s += ", started " + v["starts"] + " times"
	}
	if v["waits_for"] != "" {
		s += ", waits for " + v["waits_for"]
	}
	if v["ended"] != "" {
		s += ", last end: " + v["ended"]
	}
	return s
}

func (c ctl) serviceLog(guard *control.Client, name string) error {
	text, err := guard.ServiceLog(name)
	if err != nil {
		return err
	}
	if !c.terminal {
		_, err = c.stdout.Write(text)
		return err
	}
	for line := range strings.Lines(string(text)) { // some of it may be a stranger's, to whom the service has listened
		fmt.Fprintln(c.stdout, klog.Printable(strings.TrimSuffix(line, "\n")))
	}
	return nil
}
