package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"hapax/image/archive"
	"hapax/image/profile"
	"hapax/image/resolve"
	"hapax/modload/modindex"
)

// A builder is the state of one Build: what is in the image so far, and why.
type builder struct {
	spec  Spec
	index *modindex.Index

	machines []profile.Profile // those of the modes Host and FromProfile
	hooks    []hook            // those whose condition holds
	config   *modindex.Config  // what modprobe.d folders and deny lists say
	modules  []resolve.Choice

	tree   archive.Tree
	why    map[string]string // by name in the image
	result Result

	firmware       map[string]string // the name in the image, by file of the host
	programFiles   map[string]string // the same, for programs and libraries
	programs       []string          // their real names in the root, libraries not among them
	firmwareByBase map[string]string // files of the host, by the last element of their name

	spool *os.File // content that is not as it lies on the disk; nil until there is some
}

func newBuilder(spec Spec, index *modindex.Index) *builder {
	return &builder{spec: spec, index: index, why: map[string]string{}}
}

// close frees what the builder holds.
func (b *builder) close() {
	if b.spool != nil {
		b.spool.Close() // it has no name any more, so nothing that could be lost
	}
}

// compose collects the files of the image.
func (b *builder) compose(ctx context.Context) error {
	steps := []func(context.Context) error{
		b.readMachines, b.readHooks, b.readConfig, b.chooseModules, b.addModules, b.addFirmware,
		b.addSkeleton, b.addInit, b.addShell, b.addRescue, b.addPrograms, b.addHooks, b.addIncludes, b.addServices, b.addConfig, b.checkInterpreters, b.checkArch,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s not written: %w", b.spec.Output, context.Cause(ctx))
		}
	}
	return nil
}

// add puts a file into the image.
func (b *builder) add(e archive.Entry, why string) error {
	if err := b.tree.Add(e); err != nil {
		return err
	}
	b.why[e.Name] = why
	return nil
}

// addOnce is add for what several parts of an image may need. What is there already stays.
func (b *builder) addOnce(e archive.Entry, why string) error {
	if b.tree.Has(e.Name) {
		return nil
	}
	return b.add(e, why)
}

func (b *builder) warnf(format string, args ...any) {
	b.result.Warnings = append(b.result.Warnings, fmt.Sprintf(format, args...))
}

// write writes what compose collected.
func (b *builder) write(ctx context.Context) (Result, error) {
	entries := b.tree.Entries()
	r := &b.result
	r.Output, r.Format, r.Release, r.Compression = b.spec.Output, b.spec.Format, filepath.Base(b.spec.ModulesDir), b.spec.Compression
	r.Modules, r.Files = len(b.modules), len(entries)
	for _, e := range entries {
		if why := b.why[e.Name]; why != "" && !e.Mode.IsDir() {
			r.Explain = append(r.Explain, Explained{Name: e.Name, Size: e.Size, Why: why})
		}
	}
	microcode, err := b.microcode()
	if err != nil {
		return Result{}, err
	}
	out := output{spec: b.spec, entries: entries, microcode: microcode}
	if r.Content, r.Size, err = out.write(ctx); err != nil {
		return Result{}, err
	}
	return *r, nil
}

// readMachines learns about the machines that the image is for.
func (b *builder) readMachines(context.Context) error {
	switch b.spec.Mode {
	case Host:
		p, err := profile.Record(b.spec.HostRoot)
		if err != nil {
			return fmt.Errorf("mode host: %w", err)
		}
		b.machines = []profile.Profile{p}
	case FromProfile:
		for _, file := range b.spec.Profiles {
			p, err := profile.Read(file)
			if err != nil {
				return err
			}
			if want := b.spec.Arch.name(); p.Arch != "" && p.Arch != want {
				return fmt.Errorf("%s is of a machine with the architecture %s, and the image is for %s: say --arch %s", file, p.Arch, want, p.Arch)
			}
			b.machines = append(b.machines, p)
		}
	}
	return nil
}

// readConfig reads the modprobe.d folders.
func (b *builder) readConfig(context.Context) error {
	config, complaints := modindex.ReadConfig(b.spec.ModprobeD, "")
	for _, err := range complaints {
		b.warnf("%v", err)
	}
	b.config = config
	return nil
}

// chooseModules decides which modules the image has.
func (b *builder) chooseModules(context.Context) error {
	rules, err := b.modeRules()
	if err != nil {
		return err
	}
	for _, h := range b.hooks {
		rules = append(rules, h.rules()...)
	}
	for _, r := range b.spec.Modules {
		r.From = "--modules"
		rules = append(rules, r)
	}
	for _, name := range b.spec.ForceLoad {
		rules = append(rules, resolve.Rule{Name: name, From: "--force-load"})
	}
	b.modules, err = resolve.Choose(b.index, resolve.Request{Rules: rules, Config: b.config, Deny: b.spec.Deny})
	return err
}

// modeRules returns the rules that the mode stands for.
func (b *builder) modeRules() ([]resolve.Rule, error) {
	switch b.spec.Mode {
	case All:
		return resolve.All(), nil
	case Custom:
		return nil, nil
	case Universal:
		return resolve.Universal()
	case Host, FromProfile:
		machines := make([]resolve.Machine, len(b.machines))
		for i, p := range b.machines {
			machines[i] = resolve.Machine{Name: "this machine", Modaliases: p.Modaliases}
			if b.spec.Mode == FromProfile {
				machines[i].Name = b.spec.Profiles[i]
			}
			for _, n := range p.Needs {
				machines[i].Needs = append(machines[i].Needs, resolve.Need(n))
			}
		}
		return resolve.Machines(b.index, b.config, machines)
	}
	return nil, fmt.Errorf("unknown mode %q", string(b.spec.Mode))
}

// fileEntry returns a regular file whose content is read when the archive is written.
func fileEntry(name, file string) (archive.Entry, error) {
	info, err := os.Stat(file)
	if err != nil {
		return archive.Entry{}, fmt.Errorf("%w", err)
	}
	if !info.Mode().IsRegular() {
		return archive.Entry{}, fmt.Errorf("%s is not a regular file", file)
	}
	return archive.Entry{
		Name: name, Mode: info.Mode(), Size: info.Size(),
		Open: func() (io.ReadCloser, error) { return os.Open(file) },
	}, nil
}

// spoolFile returns a file without a name beside the output, for content that is made while the image is composed.
func (b *builder) spoolFile() (*os.File, error) {
	if b.spool != nil {
		return b.spool, nil
	}
	f, err := os.CreateTemp(filepath.Dir(b.spec.Output), "."+filepath.Base(b.spec.Output)+".*.tmp")
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b.spool = f
	return f, nil
}

// private returns the permissions of an image of entries. It is as private as the files in it that not everybody may read, by their
// own mode or by that of a folder above them.
func private(entries []archive.Entry) fs.FileMode {
	closed := map[string]bool{}
	for _, e := range entries {
		if e.Mode.IsDir() && e.Mode&0o001 == 0 {
			closed[e.Name] = true
		}
	}
	for _, e := range entries {
		if !e.Mode.IsRegular() {
			continue
		}
		secret := e.Mode&0o004 == 0
		for dir := path.Dir(e.Name); dir != "." && dir != "/"; dir = path.Dir(dir) {
			secret = secret || closed[dir]
		}
		if secret {
			return 0o600
		}
	}
	return 0o644
}
