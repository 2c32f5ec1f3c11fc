// Package elfdeps finds the shared libraries that ELF programs load, without running anything: the root may belong to
// another machine or architecture. It looks where the dynamic loader of glibc looks (ld.so(8)), and where musl's does.
//
// What a program opens by itself while it runs is known only as far as it says so: in a .note.dlopen section
// (https://systemd.io/ELF_DLOPEN_METADATA), or by calling what is known to need libgcc_s.
package elfdeps

import (
	"debug/elf"
	"errors"
	"fmt"
	"path"
	"slices"
)

// A File is a part of a closure. Names are absolute and clean, below the root.
type File struct {
	Name string // where the loader finds it
	Real string // the same file with all links followed
	By   string // Name of the first file that needs it; "" for a program itself
	Open bool   // opened while it runs, or needed by what is; nothing that is loaded at the start
	Conf bool   // found by way of ld.so.conf: without a cache, no loader looks there
}

// A Resolver looks for libraries below one root. It is not for concurrent use.
type Resolver struct {
	root    root
	conf    []string // folders that ld.so.conf lists
	objects map[string]*object
}

// New returns a Resolver for the root, which may be "/". A root without an ld.so.conf has none.
func New(dir string) (*Resolver, error) {
	r := &Resolver{root: root(dir), objects: map[string]*object{}}
	conf, err := r.root.ldConf("/etc/ld.so.conf")
	if err != nil {
		return nil, err
	}
	r.conf = conf
	return r, nil
}

// ErrNotELF reports a program that is none, such as a script.
var ErrNotELF = errors.New("not an ELF file")

// A NotFoundError reports a library that a program cannot be started without.
type NotFoundError struct {
	Library string
	By      string // the file that needs it
	Root    string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("%s needs %s, which is not below %s: install its package there", e.By, e.Library, e.Root)
}

// Closure returns the program, its loader and all the libraries that it needs, each once, in the order in which a loader
// meets them. A static program gives itself. A library may be given in the place of a program.
func (r *Resolver) Closure(program string) ([]File, error) {
	real, err := r.root.resolve(path.Clean("/" + program))
	if err != nil {
		return nil, err
	}
	o, err := r.object(real)
	if err != nil {
		return nil, err
	}
	c := &closure{r: r, machine: o, loaded: map[string]bool{}}
	c.add(File{Name: path.Clean("/" + program), Real: real}, o, nil)
	if o.interp != "" {
		if err := c.interpreter(o); err != nil {
			return nil, err
		}
	}
	// What is opened comes when all is loaded that a start needs, as it does in a program.
	for done := 0; done < len(c.nodes); {
		for ; done < len(c.nodes); done++ {
			if err := c.loadNeeded(c.nodes[done]); err != nil {
				return nil, err
			}
		}
		for ; c.opened < done; c.opened++ {
			if err := c.loadOpened(c.nodes[c.opened]); err != nil {
				return nil, err
			}
		}
	}
	return c.files, nil
}

// object returns what is known about a file, which it reads once.
func (r *Resolver) object(real string) (*object, error) {
	if o, ok := r.objects[real]; ok {
		return o, nil
	}
	o, err := readObject(r.root.host(real))
	if err != nil {
		return nil, err
	}
	r.objects[real] = o
	return o, nil
}

// A closure is the state of one Closure. Like the loader it goes breadth first.
type closure struct {
	r       *Resolver
	machine *object         // whose class and machine all others must have
	loaded  map[string]bool // names and sonames
	files   []File
	nodes   []*node
	opened  int // nodes whose wishes are fulfilled
}

// A node is a loaded object with the one that loaded it first, whose DT_RPATH counts, too.
type node struct {
	file   File
	object *object
	loader *node
	origin string
}

func (c *closure) add(f File, o *object, loader *node) {
	c.files = append(c.files, f)
	c.loaded[f.Name] = true
	if o.soname != "" {
		c.loaded[o.soname] = true
	}
	n := &node{file: f, object: o, loader: loader, origin: path.Dir(f.Name)}
	if loader == nil {
		n.origin = path.Dir(f.Real) // of the program the kernel knows the real place
	}
	c.nodes = append(c.nodes, n)
}

// interpreter adds the loader itself. It counts as loaded under its soname, which libraries list as needed.
func (c *closure) interpreter(program *object) error {
	name := path.Clean("/" + program.interp)
	by := c.files[0].Name
	real, err := c.r.root.resolve(name)
	if err != nil {
		return &NotFoundError{Library: name, By: by, Root: string(c.r.root)}
	}
	o, err := c.r.object(real)
	if err != nil {
		return err
	}
	c.add(File{Name: name, Real: real, By: by}, o, c.nodes[0])
	return nil
}

// loadNeeded adds what one object lists as needed.
func (c *closure) loadNeeded(n *node) error {
	for _, name := range n.object.needed {
		found, err := c.load(name, n, n.file.Open)
		if err != nil {
			return err
		}
		if !found {
			return &NotFoundError{Library: name, By: n.file.Name, Root: string(c.r.root)}
		}
	}
	return nil
}

// loadOpened adds what one object opens while it runs.
func (c *closure) loadOpened(n *node) error {
	for _, wish := range n.object.opened {
		found := false
		for _, name := range wish.sonames { // alternatives, the best first
			var err error
			if found, err = c.load(name, n, true); err != nil {
				return err
			}
			if found {
				break
			}
		}
		if !found && wish.required {
			return &NotFoundError{Library: wish.sonames[0], By: n.file.Name, Root: string(c.r.root)}
		}
	}
	return nil
}

// load adds the library of that name unless it is there. An object of another machine is passed over, as by the loader.
func (c *closure) load(name string, n *node, open bool) (found bool, err error) {
	if c.loaded[name] {
		return true, nil
	}
	for _, place := range c.places(name, n) {
		real, err := c.r.root.resolve(place.name)
		if err != nil {
			continue
		}
		o, err := c.r.object(real)
		if errors.Is(err, ErrNotELF) {
			continue
		}
		if err != nil {
			return false, err
		}
		if o.class != c.machine.class || o.machine != c.machine.machine {
			continue
		}
		if !c.loaded[place.name] && !c.loaded[o.soname] {
			c.add(File{Name: place.name, Real: real, By: n.file.Name, Open: open, Conf: place.conf}, o, n)
		}
		c.loaded[name] = true
		return true, nil
	}
	return false, nil
}

// A place is a name under which a library may be found.
type place struct {
	name string
	conf bool
}

// places returns where the loader looks for a library that n needs, in its order.
func (c *closure) places(name string, n *node) []place {
	expand := func(p string) []string { return c.r.root.expand(p, n.origin, c.machine) }
	if slices.Contains([]byte(name), '/') {
		var places []place
		for _, p := range expand(name) {
			places = append(places, place{name: path.Clean("/" + p)})
		}
		return places
	}
	var places []place
	in := func(conf bool, folders ...string) {
		for _, dir := range folders {
			places = append(places, place{path.Join("/", dir, name), conf})
		}
	}
	if len(n.object.runpath) == 0 {
		for l := n; l != nil; l = l.loader {
			if len(l.object.runpath) > 0 && l != n {
				continue
			}
			for _, dir := range l.object.rpath {
				in(false, c.r.root.expand(dir, l.origin, c.machine)...)
			}
		}
	}
	for _, dir := range n.object.runpath {
		in(false, expand(dir)...)
	}
	if n.object.noDefault {
		return places
	}
	standard := defaultDirs(c.machine.machine, c.machine.class)
	for _, dir := range c.r.conf {
		in(!slices.Contains(standard, dir), dir)
	}
	in(false, standard...)
	return places
}

// defaultDirs returns the folders that loaders know without a configuration, Debian's multiarch ones first.
func defaultDirs(m elf.Machine, class elf.Class) []string {
	var dirs []string
	if triplet := triplets()[m]; triplet != "" {
		dirs = append(dirs, "/lib/"+triplet, "/usr/lib/"+triplet)
	}
	if class == elf.ELFCLASS64 {
		dirs = append(dirs, "/lib64", "/usr/lib64")
	}
	return append(dirs, "/lib", "/usr/lib", "/usr/local/lib") // the last one is musl's
}

// triplets returns the names of the multiarch folders.
func triplets() map[elf.Machine]string {
	return map[elf.Machine]string{
		elf.EM_X86_64: "x86_64-linux-gnu", elf.EM_386: "i386-linux-gnu", elf.EM_AARCH64: "aarch64-linux-gnu",
		elf.EM_ARM: "arm-linux-gnueabihf", elf.EM_RISCV: "riscv64-linux-gnu", elf.EM_PPC64: "powerpc64le-linux-gnu",
		elf.EM_S390: "s390x-linux-gnu", elf.EM_LOONGARCH: "loongarch64-linux-gnu",
	}
}
