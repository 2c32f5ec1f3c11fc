package inspect

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"hapax/image/medium"
)

// openMedium looks for an image on a disk or a CD. Without a name that is the only one that firmware or its boot loader may start;
// with a name it is that file, be it a unified kernel image, an entry for a boot loader, or an initramfs. The Source keeps the
// size of the whole medium. It reports false for a file that is no medium.
func (s *Source) openMedium(file *io.SectionReader, name string) (bool, error) {
	m, err := medium.Open(file, file.Size())
	if errors.Is(err, medium.ErrNone) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	if name == "" {
		if name, err = onlyImage(s.Name, m); err != nil {
			return true, err
		}
		s.Name += ":" + name
	}
	f, ok := m.Lookup(name)
	if !ok {
		return true, fmt.Errorf("there is no such file on its EFI system partition%s", thereAre(m.Files()))
	}
	if isEntry(f.Name) {
		return true, s.findEntry(m, f)
	}
	content, err := m.Content(f)
	if err != nil {
		return true, err
	}
	if isPE(content) {
		return true, s.findSections(content)
	}
	s.parts = []*io.SectionReader{content}
	return true, nil
}

// onlyImage returns the name of the image on a medium.
func onlyImage(name string, m *medium.Medium) (string, error) {
	var images []string
	for _, f := range m.Files() {
		if !isEntry(f.Name) {
			if !strings.EqualFold(path.Ext(f.Name), ".efi") {
				continue
			}
			content, err := m.Content(f)
			if err != nil {
				return "", err
			}
			if new(Source).findSections(content) != nil {
				continue // a boot loader or another program
			}
		}
		images = append(images, f.Name)
	}
	switch len(images) {
	case 0:
		return "", fmt.Errorf("a %s with no image on its EFI system partition%s", m.Kind, thereAre(m.Files()))
	case 1:
		return images[0], nil
	}
	const most = 8
	all := strings.Join(images[:min(most, len(images))], ", ")
	if len(images) > most {
		all += " and others"
	}
	return "", fmt.Errorf("a %s with several images: name one, as %s:%s: there are %s", m.Kind, name, images[0], all)
}

// thereAre says what files there are, for an error.
func thereAre(files []medium.File) string {
	const most = 8
	if len(files) == 0 {
		return ", which is empty"
	}
	var names []string
	for _, f := range files[:min(most, len(files))] {
		names = append(names, f.Name)
	}
	if len(files) > most {
		names = append(names, plural(len(files)-most, "other"))
	}
	return ": there are " + strings.Join(names, ", ")
}

// isEntry reports whether a file is an entry of the Boot Loader Specification's type 1.
func isEntry(name string) bool {
	lower := strings.ToLower(name)
	return strings.HasPrefix(lower, "loader/entries/") && strings.HasSuffix(lower, ".conf")
}

// findEntry opens the kernel and the initramfs that an entry names.
func (s *Source) findEntry(m *medium.Medium, entry medium.File) error {
	content, err := m.Content(entry)
	if err != nil {
		return err
	}
	open := func(name string) (*io.SectionReader, error) {
		f, ok := m.Lookup(name)
		if !ok {
			return nil, fmt.Errorf("it names %s, which is not on the EFI system partition", name)
		}
		return m.Content(f)
	}
	if content.Size() > maxText {
		return errors.New("an entry for a boot loader of that size is none")
	}
	text, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		key, value := line, ""
		if i := strings.IndexAny(line, " \t"); i > 0 {
			key, value = line[:i], strings.TrimSpace(line[i:])
		}
		switch key {
		case "linux":
			s.Kernel, err = open(value)
		case "initrd":
			var part *io.SectionReader
			if part, err = open(value); err == nil {
				s.parts = append(s.parts, part)
			}
		case "options":
			s.Cmdline = strings.TrimSpace(s.Cmdline + " " + value)
		}
		if err != nil {
			return err
		}
	}
	if len(s.parts) == 0 {
		return errors.New("the entry names no initrd")
	}
	return nil
}

// splitMedium divides FILE:NAME. A name without a colon has no second part.
func splitMedium(name string) (file, inside string) {
	i := strings.LastIndexByte(name, ':')
	if i <= 0 || slices.Contains([]string{"", "/"}, name[i+1:]) {
		return name, ""
	}
	return name[:i], name[i+1:]
}
