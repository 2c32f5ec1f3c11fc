package image

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"hapax/image/archive"
	"hapax/image/assets"
	"hapax/image/elfdeps"
)

// Where an image that stays has what it needs for that.
const (
	extraFile    = "usr/lib/hapax/extra"
	baseFile     = "usr/lib/hapax/hapax-base" // names of extraFile, by which it knows what to do
	networkFile  = "usr/lib/hapax/hapax-net"
	loginFile    = "usr/lib/hapax/hapax-login"
	servicesFile = "etc/hapax/services"
)

// The services that every image that stays has. One of the user's with such a name takes its place.
const (
	baseService    = "base"
	networkService = "network"
	shellService   = "shell"
)

// standalone reports whether the image is to stay: whether it has services, or was asked to.
func (s Spec) standalone() bool { return s.Standalone || len(s.Services) > 0 }

// addServices adds what an image that stays needs: its services and their list, and what sets the system up for them.
func (b *builder) addServices(context.Context) error {
	switch {
	case !b.spec.standalone() && b.spec.Network.empty():
		return nil
	case !b.spec.standalone():
		return errors.New("network is for an image that stays: leave the table out, or give --standalone or a service")
	}
	if err := b.addNetwork(); err != nil {
		return err
	}
	services := slices.Clone(b.spec.Services)
	if err := checkServices(services, b.spec.Rescue != RescueNone); err != nil {
		return err
	}
	for i := range services {
		if err := b.addServiceProgram(&services[i]); err != nil {
			return services[i].at(err)
		}
	}
	if err := b.addExtra("part of every image that stays", baseFile, networkFile); err != nil {
		return err
	}
	a, err := b.accounts()
	if err != nil {
		return err
	}
	var list strings.Builder
	list.WriteString("hapax-services 1\n")
	for _, s := range b.withStandard(services) {
		if err := s.write(&list, a); err != nil {
			return s.at(err)
		}
	}
	if err := b.addAccountsOf(a); err != nil {
		return err
	}
	return b.add(archive.Bytes(servicesFile, 0o644, []byte(list.String())), "the services of the image")
}

// addExtra adds the second binary of /init, and names of it by which it knows what to do.
func (b *builder) addExtra(why string, names ...string) error {
	switch {
	case b.tree.Has(extraFile):
	case b.spec.Extra != "":
		if err := b.addExecutable(extraFile, b.spec.Extra, why); err != nil {
			return err
		}
	default:
		binary, err := assets.Extra(b.spec.Arch.name())
		if err != nil {
			return err
		}
		if err := b.add(archive.Bytes(extraFile, 0o755, binary), why); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := b.addOnce(archive.Symlink(name, path.Base(extraFile)), why); err != nil {
			return err
		}
	}
	return nil
}

// withStandard returns the services in front of which those that every image has stand. All are after base, which needs not be
// said.
func (b *builder) withStandard(services []Service) []Service {
	standard := []Service{
		{Name: baseService, Exec: "/" + baseFile, Type: Oneshot, StartTimeout: "1m"},
		{
			Name: networkService, Exec: "/" + networkFile, Restart: RestartOnFailure, StartTimeout: "0s", // a cable may come late
			Ready: "fd:3", Env: []envVar{"HAPAX_READY_FD=3"},
		},
	}
	if program := b.spec.Rescue.program(); program != "" {
		standard = append(standard, Service{
			Name: shellService, Exec: absPath(program), Env: []envVar{"HOME=/", "PS1=hapax# "}, After: []string{settled}, TTY: "console",
			Restart: RestartAlways, RestartDelay: "1s", Brake: "none", StopSignal: "HUP", StopTimeout: "1s",
		})
	}
	standard = slices.DeleteFunc(standard, func(s Service) bool { return hasService(services, s.Name) })
	all := append(standard, services...)
	for i := range all {
		if s := &all[i]; s.Name != baseService && !slices.Contains(s.After, baseService) {
			s.After = append([]string{baseService}, s.After...)
		}
	}
	return all
}

func hasService(services []Service, name string) bool {
	return slices.ContainsFunc(services, func(s Service) bool { return s.Name == name })
}

// checkServices returns what is wrong about services, together and each by itself.
func checkServices(services []Service, shell bool) error {
	const most = 100 // with the standard ones below what /init takes
	if len(services) > most {
		return fmt.Errorf("%d services: an image has at most %d", len(services), most)
	}
	for i := range services {
		s := &services[i]
		if err := s.check(); err != nil {
			return s.at(err)
		}
		for _, name := range s.After {
			known := slices.Contains([]string{settled, baseService, networkService}, name) || hasService(services, name) ||
				shell && name == shellService
			switch {
			case !known:
				return s.at(fmt.Errorf("after %q: there is no such service, and no such target (%s, %s, %s)", name, baseService, networkService, settled))
			case s.Name == baseService && name != settled:
				return s.at(fmt.Errorf("after %q: everything is after %s", name, baseService))
			}
		}
		if hasService(services[:i], s.Name) {
			return s.at(errors.New("there is another service of that name"))
		}
	}
	return checkCircle(services)
}

// checkCircle refuses a service that is after itself by way of others.
func checkCircle(services []Service) error {
	pending := slices.Clone(services)
	for left := len(pending) + 1; len(pending) < left; {
		left = len(pending)
		pending = slices.DeleteFunc(pending, func(s Service) bool {
			return !slices.ContainsFunc(s.After, func(name string) bool { return hasService(pending, name) })
		})
	}
	if len(pending) > 0 {
		s := &pending[0]
		return s.at(fmt.Errorf("it is after itself, by way of %s", strings.Join(s.After, ", ")))
	}
	return nil
}

// addServiceProgram adds the program of a service from the root, unless the image has it.
func (b *builder) addServiceProgram(s *Service) error {
	e, found := b.find(string(s.Exec))
	if !found {
		resolver, err := elfdeps.New(b.spec.Root)
		if err != nil {
			return err
		}
		p := programs{builder: b, resolver: resolver}
		return p.add(string(s.Exec), string(s.Exec), "service "+s.Name)
	}
	if !e.Mode.IsRegular() || e.Mode&0o111 == 0 {
		return fmt.Errorf("exec: %s in the image is no executable file", s.Exec)
	}
	return nil
}

// find returns the entry at an absolute path of the image, following links.
func (b *builder) find(name string) (archive.Entry, bool) {
	const mostLinks = 40
	rest, at := strings.Split(path.Clean(name), "/")[1:], ""
	for links := 0; len(rest) > 0; {
		next := path.Join(at, rest[0])
		e, ok := b.tree.Get(next)
		switch {
		case !ok:
			return archive.Entry{}, false
		case e.Link == "":
			at, rest = next, rest[1:]
			continue
		}
		if links++; links > mostLinks {
			return archive.Entry{}, false
		}
		target := path.Join("/", at, e.Link)
		if path.IsAbs(e.Link) {
			target = path.Clean(e.Link)
		}
		rest, at = append(strings.Split(strings.TrimPrefix(target, "/"), "/"), rest[1:]...), ""
	}
	e, ok := b.tree.Get(at)
	if ok && e.Hard != "" {
		return b.tree.Get(e.Hard)
	}
	return e, ok
}

// write writes the lines of a service.
func (s *Service) write(out *strings.Builder, a *accounts) error {
	var err error
	line := func(key, value string) {
		if value == "" && key != "arg" {
			return
		}
		if strings.Contains(value, "\x00") {
			err = fmt.Errorf("%s: %q holds a zero byte", key, value)
		}
		out.WriteString(key + " " + strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(value) + "\n")
	}
	number := func(key string, n int64) {
		if n != 0 {
			line(key, strconv.FormatInt(n, 10))
		}
	}
	bytes := func(key string, n amount) {
		if n != "" {
			size, _ := n.bytes() // checked when it was read
			number(key, size)
		}
	}
	who, errAccount := a.of(s.User, s.Group)
	if errAccount != nil {
		return errAccount
	}
	line("service", s.Name)
	line("exec", string(s.Exec))
	for _, arg := range s.Args {
		line("arg", arg)
	}
	for _, kv := range s.environment(who) {
		line("env", kv)
	}
	number("uid", int64(who.uid))
	number("gid", int64(who.gid))
	for _, g := range who.groups {
		line("group", strconv.FormatUint(uint64(g), 10))
	}
	line("dir", string(s.Dir))
	line("type", string(s.Type))
	for _, name := range s.After {
		line("after", name)
	}
	line("ready", string(s.Ready))
	line("restart", string(s.Restart))
	line("restart-delay", string(s.RestartDelay))
	text, _ := s.Brake.line() // checked when it was read
	line("brake", text)
	line("start-timeout", string(s.StartTimeout))
	line("stop-timeout", string(s.StopTimeout))
	if s.StopSignal != "" {
		line("stop-signal", s.StopSignal.full())
	}
	line("tty", s.TTY)
	bytes("memory-max", s.MemoryMax)
	number("pids-max", s.PidsMax)
	number("cpu-weight", s.CPUWeight)
	number("cpu-max", int64(s.CPUMax*100_000))
	number("oom-score", s.OOMScore)
	line("log", s.Log)
	bytes("log-size", s.LogSize)
	return err
}

// environment returns that of a service: whose it is, and what it says itself.
func (s *Service) environment(who account) []string {
	var env []string
	if who.name != "" {
		for _, kv := range []string{"HOME=" + who.home, "USER=" + who.name, "LOGNAME=" + who.name} {
			key, _, _ := strings.Cut(kv, "=")
			if !slices.ContainsFunc(s.Env, func(e envVar) bool { return strings.HasPrefix(string(e), key+"=") }) {
				env = append(env, kv)
			}
		}
	}
	for _, kv := range s.Env {
		env = append(env, string(kv))
	}
	return env
}
