package image

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"hapax/image/archive"
	"hapax/image/inroot"
)

// An account is whose a process is.
type account struct {
	name, home string // "" for a number alone
	uid, gid   uint32
	groups     []uint32
}

// accounts are the users and groups of an image. Those of an image without /etc/passwd are those of the root, and what services
// need of them is put into the image.
type accounts struct {
	passwd, group [][]string // lines by their fields
	added         bool       // the image has them
	users, groups []string   // that somebody asked for
}

// accounts reads the accounts of the image, or else those of the root.
func (b *builder) accounts() (*accounts, error) {
	passwd, found, err := b.content("/etc/passwd")
	if err != nil {
		return nil, err
	}
	a := &accounts{added: found}
	var group []byte
	if found {
		group, _, err = b.content("/etc/group")
	} else {
		passwd, err = inroot.ReadFile(b.spec.Root, "/etc/passwd")
		if err == nil {
			group, err = inroot.ReadFile(b.spec.Root, "/etc/group")
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	a.passwd, a.group = fields(passwd, 7), fields(group, 4)
	return a, nil
}

// content returns the content of a file of the image.
func (b *builder) content(name string) (data []byte, found bool, err error) {
	e, found := b.find(name)
	if !found || !e.Mode.IsRegular() || e.Open == nil {
		return nil, found, nil
	}
	f, err := e.Open()
	if err != nil {
		return nil, true, err
	}
	defer f.Close()
	data, err = io.ReadAll(io.LimitReader(f, 1<<20))
	return data, true, err
}

// fields returns the lines of a file as passwd(5) that have so many fields.
func fields(file []byte, n int) [][]string {
	var lines [][]string
	for line := range strings.Lines(string(file)) {
		if f := strings.Split(strings.TrimSuffix(line, "\n"), ":"); len(f) == n {
			lines = append(lines, f)
		}
	}
	return lines
}

// of returns whom a user and a group stand for, each by name or number.
func (a *accounts) of(user, group string) (account, error) {
	if user == "" && group == "" {
		return account{}, nil
	}
	who := account{}
	if n, err := strconv.ParseUint(user, 10, 32); err == nil {
		who.uid, who.gid = uint32(n), uint32(n)
	} else if user != "" {
		line := a.line(a.passwd, user)
		if line == nil {
			return who, fmt.Errorf("user %q is not in the /etc/passwd of the image, or of the root if it has none", user)
		}
		a.users = append(a.users, user)
		var errs [2]error
		who.name, who.home = user, line[5]
		who.uid, errs[0] = id(line[2])
		who.gid, errs[1] = id(line[3])
		if err := errors.Join(errs[:]...); err != nil {
			return who, fmt.Errorf("user %q: %w", user, err)
		}
		for _, g := range a.group {
			if gid, err := id(g[2]); err == nil && gid != who.gid && slices.Contains(strings.Split(g[3], ","), user) {
				who.groups = append(who.groups, gid)
				a.groups = append(a.groups, g[0])
			}
		}
	}
	if group == "" {
		return who, nil
	}
	if n, err := strconv.ParseUint(group, 10, 32); err == nil {
		who.gid = uint32(n)
		return who, nil
	}
	line := a.line(a.group, group)
	if line == nil {
		return who, fmt.Errorf("group %q is not in the /etc/group of the image, or of the root if it has none", group)
	}
	a.groups = append(a.groups, group)
	gid, err := id(line[2])
	who.gid = gid
	return who, err
}

func (a *accounts) line(lines [][]string, name string) []string {
	for _, f := range lines {
		if f[0] == name {
			return f
		}
	}
	return nil
}

func id(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no number of an account", text)
	}
	return uint32(n), nil
}

// addAccountsOf puts root and what was asked for into an image without accounts of its own. No password comes along: those are in
// /etc/shadow.
func (b *builder) addAccountsOf(a *accounts) error {
	if a.added {
		return nil
	}
	passwd, group := "root:x:0:0:root:/:/bin/sh\n", "root:x:0:\n"
	gids := map[string]bool{}
	for _, f := range a.passwd {
		if f[0] != "root" && slices.Contains(a.users, f[0]) {
			f = slices.Clone(f)
			f[1] = "x"
			passwd += strings.Join(f, ":") + "\n"
			gids[f[3]] = true
		}
	}
	for _, f := range a.group {
		if f[0] != "root" && (gids[f[2]] || slices.Contains(a.groups, f[0])) {
			members := slices.DeleteFunc(strings.Split(f[3], ","), func(m string) bool { return !slices.Contains(a.users, m) })
			group += strings.Join([]string{f[0], "x", f[2], strings.Join(members, ",")}, ":") + "\n"
		}
	}
	const why = "users and groups of services"
	if err := b.addOnce(archive.Bytes("etc/passwd", 0o644, []byte(passwd)), why); err != nil {
		return err
	}
	return b.addOnce(archive.Bytes("etc/group", 0o644, []byte(group)), why)
}
