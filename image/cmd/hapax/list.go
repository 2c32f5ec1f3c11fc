package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"hapax/image/archive"
	"hapax/image/inspect"
	"hapax/modload/modindex"
)

func newList() *cobra.Command {
	var long, asJSON, modules, sizes bool
	cmd := &cobra.Command{
		Use:   "ls [flags] IMAGE",
		Short: "List the files of an image",
		Long: `List the files of an image in their order, whoever made it: an initramfs, which is one or more newc archives, plain or
compressed with zstd, xz, gzip, lz4, lzop, bzip2 or lzma, a unified kernel image with one in it, or a disk (raw or qcow2) or CD
with one of these on its EFI system partition. IMAGE:FILE names one of several there. Nothing is unpacked to disk.

With --modules, list the kernel modules with their sizes, the largest first; with --sizes, what the folders take.`,
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(cmd.ValidateFlagGroups(), cobra.ExactArgs(1)(cmd, args)) // cobra itself looks at groups too late
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			source, err := inspect.Open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer source.Close()
			out := bufio.NewWriter(cmd.OutOrStdout())
			switch {
			case modules:
				err = listModules(out, source)
			case sizes:
				err = listSizes(out, source)
			case asJSON:
				err = listJSON(out, source)
			default:
				err = listText(out, source, long)
			}
			return errors.Join(out.Flush(), err) // what could be read is of use before a damaged place, too
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&long, "long", "l", false, "show mode, owner and size, too")
	flags.BoolVar(&modules, "modules", false, "list the kernel modules by size")
	flags.BoolVar(&sizes, "sizes", false, "list the folders by size")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.MarkFlagsMutuallyExclusive("long", "json", "modules", "sizes")
	return cmd
}

func listText(w io.Writer, source *inspect.Source, long bool) error {
	_, err := eachFile(source, func(h archive.Header) error {
		line := printable(h.Name)
		if long {
			size := strconv.FormatInt(h.Size, 10)
			if h.Mode&fs.ModeDevice != 0 {
				size = fmt.Sprintf("%d,%d", h.Dev.Major, h.Dev.Minor)
			}
			line = fmt.Sprintf("%-11v %d:%d %10s %s", h.Mode, h.UID, h.GID, size, line)
			if h.Link != "" {
				line += " -> " + printable(h.Link)
			}
		}
		_, err := fmt.Fprintln(w, line)
		return err
	})
	return err
}

// listModules writes one line for each module: its size in the image, its name and its file.
func listModules(w io.Writer, source *inspect.Source) error {
	tree, err := inspect.Read(source, inspect.Options{})
	if err != nil {
		return err
	}
	modules := tree.Modules()
	bySize := func(a, b string) int {
		return cmp.Or(cmp.Compare(modules[b].Content.Size, modules[a].Content.Size), cmp.Compare(a, b))
	}
	for _, name := range slices.SortedFunc(maps.Keys(modules), bySize) {
		f := modules[name]
		if _, err := fmt.Fprintf(w, "%10d %s %s\n", f.Content.Size, printable(name), printable(f.Path)); err != nil {
			return err
		}
	}
	return nil
}

// listSizes writes one line for each folder: bytes, files and its name.
func listSizes(w io.Writer, source *inspect.Source) error {
	tree, err := inspect.Read(source, inspect.Options{})
	if err != nil {
		return err
	}
	for _, s := range tree.Sizes() {
		if _, err := fmt.Fprintf(w, "%10d %5d %s\n", s.Bytes, s.Files, printable(s.Path)); err != nil {
			return err
		}
	}
	return nil
}

// A listing is what ls --json prints.
type listing struct {
	Image   string                `json:"image"`
	Kind    inspect.Kind          `json:"kind"`
	Formats []archive.Compression `json:"formats"`
	Content int64                 `json:"content_bytes"`
	Files   []listedFile          `json:"files"`
}

type listedFile struct {
	Name    string `json:"name"`
	Mode    string `json:"mode"`
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	Size    int64  `json:"size"`
	Time    int64  `json:"mtime"`
	Link    string `json:"link,omitempty"`
	Device  string `json:"device,omitempty"` // "major:minor"
	Module  string `json:"module,omitempty"` // of a kernel module, its name
	Archive int    `json:"archive"`
}

func listJSON(w io.Writer, source *inspect.Source) error {
	list := listing{Image: source.Name, Kind: source.Kind, Files: []listedFile{}}
	r, err := eachFile(source, func(h archive.Header) error {
		f := listedFile{
			Name: h.Name, Mode: h.Mode.String(), UID: h.UID, GID: h.GID,
			Size: h.Size, Time: h.ModTime.Unix(), Link: h.Link, Archive: h.Part,
		}
		if h.Mode&fs.ModeDevice != 0 {
			f.Device = fmt.Sprintf("%d:%d", h.Dev.Major, h.Dev.Minor)
		}
		if h.Mode.IsRegular() && inspect.IsModule(h.Name) {
			f.Module = modindex.NameOf(h.Name)
		}
		list.Files = append(list.Files, f)
		return nil
	})
	if err != nil {
		return err
	}
	list.Formats, list.Content = r.Formats(), r.ContentBytes()
	return printJSON(w, list)
}

// eachFile calls do for every file of an image until one of them fails. The reader that it returns is at the end.
func eachFile(source *inspect.Source, do func(archive.Header) error) (*archive.Reader, error) {
	r := source.Reader(archive.Limits{})
	for {
		h, err := r.Next()
		if err == io.EOF { //nolint:errorlint // a wrapped io.EOF would be damage
			return r, nil
		}
		if err == nil {
			err = do(h)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source.Name, err)
		}
	}
}

// printable returns name as it is, or quoted if a terminal might take a part of it for a command.
func printable(name string) string {
	special := func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }
	if name == "" || strings.ContainsFunc(name, special) {
		return strconv.Quote(name)
	}
	return name
}
