package image

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"hapax/image/archive"
	"hapax/image/inroot"
)

// addHooks adds the files of the hooks and the users and groups of all of them together.
func (b *builder) addHooks(context.Context) error {
	for _, h := range b.hooks {
		if err := b.addHook(h); err != nil {
			return fmt.Errorf("%s: %w", h.file, err)
		}
	}
	return b.addAccounts()
}

func (b *builder) addHook(h hook) error {
	if len(h.Modprobe) > 0 {
		name := "etc/modprobe.d/hapax-" + strings.ReplaceAll(h.Name, "/", "-") + ".conf"
		if err := b.add(archive.Bytes(name, 0o644, []byte(strings.Join(h.Modprobe, "\n")+"\n")), h.why()); err != nil {
			return err
		}
	}
	for _, f := range h.Files {
		if err := b.addHookFile(f, h.why()); err != nil {
			return err
		}
	}
	for _, d := range h.Folders {
		if err := b.add(archive.Dir(inImage(d.Target), d.Mode.or(0o755)), h.why()); err != nil {
			return err
		}
	}
	for _, l := range h.Links {
		if err := b.add(archive.Symlink(inImage(l.Target), l.To), h.why()); err != nil {
			return err
		}
	}
	for _, n := range h.Nodes {
		kind := map[string]fs.FileMode{"char": fs.ModeDevice | fs.ModeCharDevice, "block": fs.ModeDevice}[n.Type]
		if kind == 0 {
			return fmt.Errorf("node %s: type %q: use \"char\" or \"block\"", n.Target, n.Type)
		}
		node := archive.Entry{Name: inImage(n.Target), Mode: kind | n.Mode.or(0o600), Dev: archive.Devno{Major: n.Major, Minor: n.Minor}}
		if err := b.add(node, h.why()); err != nil {
			return err
		}
	}
	return nil
}

// addHookFile adds a file or folder of the root, or one whose content stands in the hook.
func (b *builder) addHookFile(f hookFile, why string) error {
	switch {
	case f.Content != nil && f.Source != "":
		return fmt.Errorf("file %s: a source and a content: leave out one", f.Source)
	case f.Content != nil:
		return b.add(archive.Bytes(inImage(f.Target), f.Mode.or(0o644), []byte(*f.Content)), why)
	case f.Source == "":
		return fmt.Errorf("file %q: neither a source nor a content", f.Target)
	}
	source, err := inroot.Resolve(b.spec.Root, f.Source)
	if err != nil {
		return err
	}
	in := Include{Source: inroot.Host(b.spec.Root, source), Target: f.Target}
	if in.Target == "" {
		in.Target = f.Source
	}
	if strings.HasSuffix(in.Target, "/") && path.Clean(in.Target) != "/" {
		in.Target += path.Base(f.Source) // the link's name, not that of what it leads to
	}
	return b.include(in, f.Mode, why)
}

// inImage returns a path as the archive wants it. One that leads out of the image stays what it is, and is refused there.
func inImage(target string) string { return strings.TrimPrefix(target, "/") }

// addAccounts writes /etc/passwd and /etc/group if a hook has users or groups. Root is always among them.
func (b *builder) addAccounts() error {
	passwd, group := "root:x:0:0:root:/:/bin/sh\n", "root:x:0:\n"
	users, groups := map[string]string{"root": passwd}, map[string]string{"root": group}
	for _, h := range b.hooks {
		for _, u := range h.Users {
			home, shell := u.Home, u.Shell
			setDefault(&home, "/")
			setDefault(&shell, "/bin/sh")
			line := fmt.Sprintf("%s:x:%d:%d::%s:%s\n", u.Name, u.UID, u.GID, home, shell)
			isNew, err := checkAccount(users, u.Name, line, u.Home, u.Shell)
			if err != nil {
				return fmt.Errorf("%s: user %w", h.file, err)
			}
			if isNew {
				passwd += line
			}
		}
		for _, g := range h.Groups {
			line := fmt.Sprintf("%s:x:%d:%s\n", g.Name, g.GID, strings.Join(g.Members, ","))
			isNew, err := checkAccount(groups, g.Name, line, g.Members...)
			if err != nil {
				return fmt.Errorf("%s: group %w", h.file, err)
			}
			if isNew {
				group += line
			}
		}
	}
	if len(users)+len(groups) == 2 {
		return nil
	}
	const why = "users and groups of hooks"
	if err := b.add(archive.Bytes("etc/passwd", 0o644, []byte(passwd)), why); err != nil {
		return fmt.Errorf("%s: %w", why, err)
	}
	if err := b.add(archive.Bytes("etc/group", 0o644, []byte(group)), why); err != nil {
		return fmt.Errorf("%s: %w", why, err)
	}
	return nil
}

// checkAccount refuses a name that stands for another account already, and whatever would end a field of passwd(5). lines has
// those that there are, to which the new one is added.
func checkAccount(lines map[string]string, name, line string, fields ...string) (isNew bool, err error) {
	old, there := lines[name]
	if name == "" || there && old != line {
		return false, fmt.Errorf("%q: no name, or one that is there already for another account", name)
	}
	for _, field := range append(fields, name) {
		if strings.ContainsAny(field, ":\n,") {
			return false, fmt.Errorf("%q: %q holds a colon, a comma or a line end", name, field)
		}
	}
	lines[name] = line
	return !there, nil
}
