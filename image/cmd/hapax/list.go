package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"hapax/image/archive"
)

func newList() *cobra.Command {
	var long, asJSON bool
	cmd := &cobra.Command{
		Use:   "ls [flags] IMAGE",
		Short: "List the files of an initramfs image",
		Long: `List the files of an initramfs image in their order, whoever made it: one or more newc archives, plain or
compressed with zstd, xz, gzip or lz4. Nothing is unpacked to disk.`,
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(cmd.ValidateFlagGroups(), cobra.ExactArgs(1)(cmd, args)) // cobra itself looks at groups too late
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			r := archive.NewReader(f, archive.Limits{})
			out := bufio.NewWriter(cmd.OutOrStdout())
			if asJSON {
				err = listJSON(out, args[0], r)
			} else {
				err = listText(out, r, long)
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", args[0], err)
			}
			return errors.Join(out.Flush(), err) // what could be read is of use before a damaged place, too
		},
	}
	cmd.Flags().BoolVarP(&long, "long", "l", false, "show mode, owner and size, too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.MarkFlagsMutuallyExclusive("long", "json")
	return cmd
}

func listText(w io.Writer, r *archive.Reader, long bool) error {
	return eachFile(r, func(h archive.Header) error {
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
}

// A listing is what ls --json prints.
type listing struct {
	Image   string                `json:"image"`
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
	Archive int    `json:"archive"`
}

func listJSON(w io.Writer, image string, r *archive.Reader) error {
	list := listing{Image: image, Files: []listedFile{}}
	err := eachFile(r, func(h archive.Header) error {
		f := listedFile{
			Name: h.Name, Mode: h.Mode.String(), UID: h.UID, GID: h.GID,
			Size: h.Size, Time: h.ModTime.Unix(), Link: h.Link, Archive: h.Part,
		}
		if h.Mode&fs.ModeDevice != 0 {
			f.Device = fmt.Sprintf("%d:%d", h.Dev.Major, h.Dev.Minor)
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

// eachFile calls do for every file of an image until one of them fails.
func eachFile(r *archive.Reader, do func(archive.Header) error) error {
	for {
		h, err := r.Next()
		if err == io.EOF { //nolint:errorlint // a wrapped io.EOF would be damage
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(h); err != nil {
			return err
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
