package elfdeps

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"hapax/image/inroot"
)

// A root is a folder that stands for "/". Links in it, absolute ones too, never lead out of it.
type root string

// host returns the path of the host for a clean absolute one without links.
func (r root) host(name string) string { return inroot.Host(string(r), name) }

// resolve follows all links in a clean absolute path. The error is fs.ErrNotExist if there is no such file.
func (r root) resolve(name string) (string, error) { return inroot.Resolve(string(r), name) }

// expand replaces the tokens of ld.so(8) in a path: $ORIGIN by the folder of the object, $LIB by each of the folders that
// it stands for in one distribution or the other, $PLATFORM by the name of the machine. Relative paths, which would depend on
// where the program is started, give nothing.
func (r root) expand(dir, origin string, o *object) []string {
	replace := func(s, token, by string) string {
		return strings.ReplaceAll(strings.ReplaceAll(s, "${"+token+"}", by), "$"+token, by)
	}
	dir = replace(dir, "ORIGIN", origin)
	dir = replace(dir, "PLATFORM", platform(o.machine))
	if !path.IsAbs(dir) {
		return nil
	}
	if replace(dir, "LIB", "") == dir {
		return []string{dir}
	}
	libs := []string{"lib"}
	if o.class == elf.ELFCLASS64 {
		libs = []string{"lib64", "lib"}
	}
	if triplet := triplets()[o.machine]; triplet != "" {
		libs = append([]string{"lib/" + triplet}, libs...)
	}
	var dirs []string
	for _, lib := range libs {
		dirs = append(dirs, replace(dir, "LIB", lib))
	}
	return dirs
}

// platform is what the kernel says in AT_PLATFORM.
func platform(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "x86_64"
	case elf.EM_AARCH64:
		return "aarch64"
	case elf.EM_386:
		return "i686"
	}
	return ""
}

// maxConf bounds how deep the files of ld.so.conf include one another, and so a circle.
const maxConf = 16

// ldConf returns the folders that a file of ld.so.conf's format lists, those of included files in their place.
func (r root) ldConf(file string) ([]string, error) { return r.ldConfDepth(file, 0) }

func (r root) ldConfDepth(file string, depth int) ([]string, error) {
	real, err := r.resolve(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if depth > maxConf {
		return nil, fmt.Errorf("%s: includes itself", r.host(real))
	}
	f, err := os.Open(r.host(real))
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	defer f.Close()
	var dirs []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(" \t,:", c) })
		switch {
		case len(words) == 0 || words[0] == "hwcap":
		case words[0] == "include":
			for _, pattern := range words[1:] {
				more, err := r.ldConfGlob(pattern, path.Dir(file), depth)
				if err != nil {
					return nil, err
				}
				dirs = append(dirs, more...)
			}
		default:
			for _, dir := range words {
				if path.IsAbs(dir) && !slices.Contains(dirs, path.Clean(dir)) {
					dirs = append(dirs, path.Clean(dir))
				}
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", r.host(real), err)
	}
	return dirs, nil
}

// ldConfGlob reads the files that an include line names, in the order of their names.
func (r root) ldConfGlob(pattern, dir string, depth int) ([]string, error) {
	if !path.IsAbs(pattern) {
		pattern = path.Join(dir, pattern)
	}
	folder, err := r.resolve(path.Dir(pattern))
	if err != nil {
		return nil, nil // no such folder
	}
	entries, err := os.ReadDir(r.host(folder))
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	var dirs []string
	for _, e := range entries {
		if match, err := path.Match(path.Base(pattern), e.Name()); err != nil || !match || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		more, err := r.ldConfDepth(path.Join(folder, e.Name()), depth+1)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, more...)
	}
	return dirs, nil
}
