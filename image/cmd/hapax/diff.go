package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"hapax/image/inspect"
)

func newDiff() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff [flags] A B",
		Short: "Compare the files of two images",
		Long: `Compare what two images unpack to: files that only one of them has, files that are not the same, and the modules. Times
do not count. If the images are for two kernels, the folder of modules of the one stands for that of the other.

Exit codes: 0 the same, 1 not the same or not to be read (then with a message), 2 wrong usage.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := readSums(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			b, err := readSums(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			d := inspect.Diff(a, b)
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), d)
			} else {
				err = printDifference(cmd.OutOrStdout(), d)
			}
			if err == nil && !d.Same() {
				err = &exitError{exitFailed}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

// readSums reads an image with the sums of its files. The file is closed: what Diff wants is in memory.
func readSums(ctx context.Context, name string) (*inspect.Tree, error) {
	source, err := inspect.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	tree, err := inspect.Read(source, inspect.Options{Sum: true})
	return tree, errors.Join(err, source.Close())
}

// printDifference writes a line for each file: "-" for one that only A has, "+" for one that only B has, "~" for a changed one.
func printDifference(w io.Writer, d *inspect.Difference) error {
	out := bufio.NewWriter(w) // Flush has its errors
	for _, c := range d.Removed {
		fmt.Fprintf(out, "- %s (%s)\n", printable(c.Path), formatBytes(c.Size[0]))
	}
	for _, c := range d.Added {
		fmt.Fprintf(out, "+ %s (%s)\n", printable(c.Path), formatBytes(c.Size[1]))
	}
	for _, c := range d.Changed {
		size := formatBytes(c.Size[1])
		if c.Size[0] != c.Size[1] {
			size = formatBytes(c.Size[0]) + " -> " + size
		}
		fmt.Fprintf(out, "~ %s: %s (%s)\n", printable(c.Path), printable(strings.Join(c.What, ", ")), size)
	}
	for _, list := range []struct {
		sign    string
		modules []string
	}{{"-", d.Modules.Removed}, {"+", d.Modules.Added}} {
		for _, name := range list.modules {
			fmt.Fprintf(out, "%s module %s\n", list.sign, printable(name))
		}
	}
	for _, s := range []inspect.Summary{d.A, d.B} {
		fmt.Fprintf(out, "%s: %s in %d files, %d modules of %s, %s with %s\n", s.Image, formatBytes(s.Content), s.Files, s.Modules,
			printable(strings.Join(s.Releases, ", ")), formatBytes(s.Size), strings.Join(s.Formats, ", "))
	}
	fmt.Fprintf(out, "%d files removed, %d added, %d changed\n", len(d.Removed), len(d.Added), len(d.Changed))
	return out.Flush()
}
