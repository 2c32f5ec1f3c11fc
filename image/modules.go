package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"hapax/image/archive"
	"hapax/image/modfile"
	"hapax/image/resolve"
	"hapax/modload/modindex"
)

// A Packing says how the modules are stored in the archive, each for itself.
type Packing string

// The packings of Build. The kernel or the engine of the image unpacks each of them when the module is loaded.
const (
	KeepPacking Packing = "keep" // as in the tree
	PlainFiles  Packing = "none"
	XZFiles     Packing = "xz"
	ZstdFiles   Packing = "zstd"
	GzipFiles   Packing = "gzip"
)

// Packings returns the packings of Build, the default first.
func Packings() []Packing { return []Packing{KeepPacking, PlainFiles, ZstdFiles, XZFiles, GzipFiles} }

// UnmarshalText refuses what is no packing.
func (p *Packing) UnmarshalText(text []byte) error { return unmarshalWord(p, Packings(), text) }

// suffix returns what the name of a packed module ends with behind ".ko".
func (p Packing) suffix() string {
	switch p {
	case XZFiles:
		return ".xz"
	case ZstdFiles:
		return ".zst"
	case GzipFiles:
		return ".gz"
	}
	return ""
}

// moduleDir returns the folder of the modules in the image.
func (b *builder) moduleDir() string {
	return path.Join("lib/modules", filepath.Base(b.spec.ModulesDir))
}

// addModules adds the selected modules, the index that knows these and no others, the one of what is left out, for the boot
// report, and the list of those to load at every boot.
func (b *builder) addModules(ctx context.Context) error {
	names := make([]string, len(b.modules))
	for i, m := range b.modules {
		names[i] = m.Name
	}
	entries, err := b.moduleFiles(ctx)
	if err != nil {
		return err
	}
	for i, e := range entries {
		e.Mode = 0o644 // a build by root and one by a user with another umask give the same image
		if err := b.add(e, b.modules[i].Why); err != nil {
			return err
		}
	}
	files, err := modindex.Reduce(b.index, names)
	if err != nil {
		return err
	}
	missing, err := modindex.MissingFile(b.index, names)
	if err != nil {
		return err
	}
	for _, f := range append(files, missing) {
		if f.Name == "modules.dep.bin" && b.spec.Packing != KeepPacking {
			if f.Data, err = b.packedDeps(names); err != nil {
				return err
			}
		}
		if err := b.add(archive.Bytes(path.Join(b.moduleDir(), f.Name), 0o644, f.Data), "index of the modules"); err != nil {
			return err
		}
	}
	return b.addForceLoad()
}

// moduleFiles returns the entries of the selected modules, in their order.
func (b *builder) moduleFiles(ctx context.Context) ([]archive.Entry, error) {
	entries := make([]archive.Entry, len(b.modules))
	if b.spec.Packing == KeepPacking {
		for i, m := range b.modules {
			e, err := fileEntry(path.Join(b.moduleDir(), m.Path), filepath.Join(b.index.Dir(), m.Path))
			if err != nil {
				return nil, err
			}
			entries[i] = e
		}
		return entries, nil
	}
	packed, err := b.repack(ctx)
	if err != nil {
		return nil, err
	}
	for i, m := range b.modules {
		p := packed[i]
		entries[i] = archive.Entry{
			Name: path.Join(b.moduleDir(), b.packedPath(m.Path)), Size: p.Size(),
			Open: func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(p, 0, p.Size())), nil },
		}
	}
	return entries, nil
}

// packedPath returns the path of a module under the packing of the image.
func (b *builder) packedPath(file string) string {
	plain, _, _ := strings.Cut(path.Base(file), ".ko")
	return path.Join(path.Dir(file), plain+".ko"+b.spec.Packing.suffix())
}

// repack stores the modules in the spool file, packed as the image wants them.
func (b *builder) repack(ctx context.Context) ([]*io.SectionReader, error) {
	spool, err := b.spoolFile()
	if err != nil {
		return nil, err
	}
	packed := make([]*io.SectionReader, len(b.modules))
	made := make([]chan []byte, len(b.modules))
	for i := range made {
		made[i] = make(chan []byte, 1)
	}
	work, ctx := errgroup.WithContext(ctx)
	slots := make(chan struct{}, runtime.GOMAXPROCS(0)+1) // a compressor takes tens of megabytes
	work.Go(func() error {
		var offset int64
		for i := range made {
			select {
			case content := <-made[i]:
				if _, err := spool.WriteAt(content, offset); err != nil {
					return fmt.Errorf("write beside %s: %w", b.spec.Output, err)
				}
				packed[i] = io.NewSectionReader(spool, offset, int64(len(content)))
				offset += int64(len(content))
				<-slots
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for i, m := range b.modules {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil, work.Wait()
		}
		work.Go(func() error {
			content, err := pack(filepath.Join(b.index.Dir(), m.Path), b.spec.Packing)
			made[i] <- content
			return err
		})
	}
	return packed, work.Wait()
}

// pack returns the content of a module file in another packing.
func pack(file string, p Packing) ([]byte, error) {
	plain, err := modfile.Open(file)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	var packed bytes.Buffer
	compression := map[Packing]archive.Compression{
		PlainFiles: archive.None, XZFiles: archive.XZ, ZstdFiles: archive.Zstd, GzipFiles: archive.Gzip,
	}
	z, err := archive.NewCompressor(&packed, compression[p])
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(z, plain); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", file, err)
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// packedDeps returns modules.dep.bin with the names that the modules have under the packing of the image. It is made of the
// text that depmod would write.
func (b *builder) packedDeps(names []string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "hapax-")
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	defer os.RemoveAll(dir)
	paths := map[string]string{}
	for _, m := range b.modules {
		paths[m.Name] = b.packedPath(m.Path)
	}
	var text strings.Builder
	for _, m := range b.modules {
		text.WriteString(paths[m.Name] + ":")
		for _, dep := range slices.Backward(m.Deps) { // depmod writes users before providers
			if paths[dep] != "" {
				text.WriteString(" " + paths[dep])
			}
		}
		text.WriteString("\n")
	}
	if err := os.WriteFile(filepath.Join(dir, "modules.dep"), []byte(text.String()), 0o600); err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	index, err := modindex.Open(dir)
	if err != nil {
		return nil, err
	}
	defer index.Close()
	files, err := modindex.Reduce(index, names)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(files, func(f modindex.File) bool { return f.Name == "modules.dep.bin" })
	return files[i].Data, nil
}

// addForceLoad writes modules-load.d(5) with the names that the queries stand for.
func (b *builder) addForceLoad() error {
	queries := b.spec.ForceLoad
	for _, h := range b.hooks {
		queries = append(queries[:len(queries):len(queries)], h.ForceLoad...)
	}
	if len(queries) == 0 {
		return nil
	}
	var list strings.Builder
	for _, query := range queries {
		names, err := resolve.Lookup(b.index, query)
		if err != nil {
			return fmt.Errorf("force-load: %w", err)
		}
		for _, name := range names {
			list.WriteString(name + "\n")
		}
	}
	return b.add(archive.Bytes("etc/modules-load.d/hapax.conf", 0o644, []byte(list.String())), "--force-load")
}

// addConfig adds the modprobe.d files that say something about a module of the image, and what is denied.
func (b *builder) addConfig(context.Context) error {
	if len(b.spec.Deny) > 0 {
		line := "deny " + strings.Join(b.spec.Deny, " ") + "\n"
		if err := b.add(archive.Bytes("etc/modprobe.d/hapax-deny.conf", 0o644, []byte(line)), "--deny"); err != nil {
			return err
		}
	}
	seen := map[string]bool{} // a file hides those of its name in later folders
	for _, dir := range b.spec.ModprobeD {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			b.warnf("%v", err)
		}
		for _, e := range entries {
			name, file := e.Name(), filepath.Join(dir, e.Name())
			if !strings.HasSuffix(name, ".conf") || seen[name] {
				continue
			}
			seen[name] = true
			text, err := os.ReadFile(file)
			if err != nil {
				b.warnf("%v", err)
				continue
			}
			if !b.applies(string(text)) || b.tree.Has("etc/modprobe.d/"+name) {
				continue
			}
			if err := b.add(archive.Bytes("etc/modprobe.d/"+name, 0o644, text), file+" applies to modules of the image"); err != nil {
				return err
			}
		}
	}
	return nil
}

// applies reports whether a modprobe.d file has a line about a module of the image: its second word is one, or an alias
// whose third word is.
func (b *builder) applies(text string) bool {
	has := map[string]bool{}
	for _, m := range b.modules {
		has[m.Name] = true
	}
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		words := strings.Fields(line)
		if len(words) < 2 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if has[modindex.Normalize(words[1])] || words[0] == "alias" && len(words) > 2 && has[modindex.Normalize(words[2])] {
			return true
		}
	}
	return false
}
