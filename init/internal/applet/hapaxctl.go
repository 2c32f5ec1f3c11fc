package applet

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hapax/init/internal/control"
	"hapax/init/internal/tojson"
	"hapax/modload"
)

// A ctl is one run of hapaxctl.
type ctl struct {
	*env
	json    bool
	timeout time.Duration
}

const (
	ctlOK     = 0
	ctlFailed = 1
	ctlUsage  = 2
)

const ctlHelp = `Usage: hapaxctl [options] COMMAND
Commands:
	start|stop|restart NAME...
	                  a service of an image that stays, until it is up or has stopped
	services          all services
	status NAME...    these services
	log NAME          the last lines that a service has written
	status            what the engine has done so far
	settle            wait until all devices are handled and no module is on its way
	load NAME...      load modules, by name or alias, and what they need
	unload NAME...    take modules out of the kernel
	why NAME          what became of a module, and who asked for it
	trace             print each module as it ends, until interrupted
	reload            read the module index and modprobe.d again
	modprobe, insmod, rmmod, lsmod, modinfo ...
	                  the applet of that name
Options:
	    --json            print JSON: status, services, load, why, trace
	    --timeout=TIME    give up waiting after TIME: 90, 90s, 1m30s
	-V, --version         show version
	-h, --help            show this help
Exit codes: 0 done, 1 failed or timed out, 2 wrong usage.
`

const (
	optJSON byte = iota + 1
	optTimeout
)

func runHapaxctl(e *env, args []string) int {
	g := getopt{
		argv0:  e.argv0,
		shorts: "hV",
		longs:  []long{{"json", false, optJSON}, {"timeout", true, optTimeout}, {"help", false, 'h'}, {"version", false, 'V'}},
	}
	g.parse(args)
	c := ctl{env: e}
	for _, o := range g.opts {
		switch o.code {
		case optJSON:
			c.json = true
		case optTimeout:
			var ok bool
			if c.timeout, ok = parseTime(o.arg); !ok {
				return c.usage("--timeout=%s: want a time such as 90, 90s or 1m30s", o.arg)
			}
		case 'h':
			fmt.Fprint(c.stdout, ctlHelp)
			return ctlOK
		case 'V':
			fmt.Fprintln(c.stdout, "hapaxctl, protocol hapax/1")
			return ctlOK
		default:
			fmt.Fprintln(c.stderr, o.arg)
			return ctlUsage
		}
	}
	if len(g.operands) == 0 {
		return c.usage("want a command; see hapaxctl --help")
	}
	return c.command(g.operands[0], g.operands[1:])
}

// parseTime reads a time that is longer than none: seconds, or as Go writes it.
func parseTime(s string) (d time.Duration, ok bool) {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		s = fmt.Sprint(n, "s")
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d > 0
}

func (c ctl) usage(format string, args ...any) int {
	fmt.Fprintf(c.stderr, "%s: %s\n", c.name, fmt.Sprintf(format, args...))
	return ctlUsage
}

// command checks the number of arguments, and carries the command out.
func (c ctl) command(verb string, names []string) int {
	client, guard := *c.client, *c.guard
	client.Timeout, guard.Timeout = c.timeout, c.timeout
	var run func() error
	if verb == "status" && len(names) > 0 {
		verb = "service"
	}
	switch verb {
	case "status":
		run = func() error { return c.status(&client) }
	case "settle":
		run = client.Settle
	case "reload":
		run = client.Reload
	case "trace":
		run = func() error { return c.trace(&client) }
	case "services":
		run = func() error { return c.services(&guard, "") }
	case "load", "unload", "why":
		if len(names) == 0 {
			return c.usage("%s: want the name of a module", verb)
		}
		return c.each(verb, names, &client)
	case "start", "stop", "restart", "service", "log":
		if len(names) == 0 {
			return c.usage("%s: want the name of a service", verb)
		}
		return c.each(verb, names, &guard)
	default:
		return c.usage("unknown command %q; see hapaxctl --help", verb)
	}
	if len(names) > 0 {
		return c.usage("%s takes no argument", verb)
	}
	return c.done(verb, run())
}

// done reports an error in the end.
func (c ctl) done(what string, err error) int {
	switch {
	case err == nil:
		return ctlOK
	case errors.Is(err, os.ErrDeadlineExceeded):
		fmt.Fprintf(c.stderr, "%s: %s: no answer within %v\n", c.name, what, c.timeout)
	default:
		fmt.Fprintf(c.stderr, "%s: %s: %v\n", c.name, what, err)
	}
	return ctlFailed
}

// each carries a command out for one module or service after the other.
func (c ctl) each(verb string, names []string, client *control.Client) (code int) {
	for _, name := range names {
		var err error
		switch verb {
		case "load":
			err = c.load(client, name)
		case "unload":
			err = client.Remove(name, unix.O_NONBLOCK)
		case "why":
			err = c.why(client, name)
		case "service":
			err = c.services(client, name)
		case "log":
			err = c.serviceLog(client, name)
		default:
			err = client.Service(verb, name)
		}
		if c.done(verb+" "+name, err) != ctlOK {
			code = ctlFailed
		}
	}
	return code
}

// load prints what became of each module that name stands for. One that failed
// is an error, also if the last one did not.
func (c ctl) load(client *control.Client, name string) error {
	outcomes, err := client.Load(modload.Call{Query: name, Asker: c.getenv("MODPROBE_MODULE")})
	for _, o := range outcomes {
		line := struct {
			Name  string `json:"name"`
			State string `json:"state"`
			New   bool   `json:"new"`
			Error string `json:"error,omitempty"`
		}{o.Module, o.State.String(), o.New, ""}
		if o.Err != nil {
			line.Error = o.Err.Error()
			err = errors.Join(err, o.Err)
		}
		if c.json {
			c.printJSON(line)
		} else if o.Err == nil {
			fmt.Fprintln(c.stdout, line.Name, line.State)
		}
	}
	return err
}

func (c ctl) printJSON(v any) {
	fmt.Fprintf(c.stdout, "%s\n", tojson.Marshal(v))
}

func (c ctl) status(client *control.Client) error {
	doc, err := client.Status()
	if err != nil {
		return err
	}
	if c.json {
		fmt.Fprintf(c.stdout, "%s\n", doc)
		return nil
	}
	return flatten(doc, func(path, value string) {
		fmt.Fprintf(c.stdout, "%-24s %s\n", path, value)
	})
}

// story is what why and trace print of a modload.Module: what happened when, and
// on whose behalf.
func story(doc []byte) (string, error) {
	v := map[string]string{}
	if err := flatten(doc, func(path, value string) { v[path] = value }); err != nil {
		return "", err
	}
	s := v["name"] + " " + v["state"]
	if v["ended_ms"] != "0" {
		s += " at " + v["ended_ms"] + " ms"
	}
	if v["begun_ms"] != "0" {
		s += " (asked for at " + v["queued_ms"] + ", loading since " + v["begun_ms"] + ")"
	}
	s += ", asked for by " + strings.TrimSpace(v["origin.kind"]+" "+v["origin.by"])
	if v["asked"] != "0" && v["asked"] != "1" {
		s += ", " + v["asked"] + " times in all"
	}
	if v["error"] != "" {
		s += ": " + v["error"]
	}
	return s, nil
}

func (c ctl) why(client *control.Client, name string) error {
	doc, err := client.Why(name)
	if err != nil {
		return err
	}
	return c.printModule(doc)
}

func (c ctl) printModule(doc []byte) error {
	if c.json {
		fmt.Fprintf(c.stdout, "%s\n", doc)
		return nil
	}
	s, err := story(doc)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.stdout, s)
	return nil
}

func (c ctl) trace(client *control.Client) error {
	return client.Trace(func(doc []byte) error {
		if err := c.printModule(doc); err != nil {
			return err
		}
		return c.stdout.Flush()
	})
}
