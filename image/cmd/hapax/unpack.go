package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"hapax/image/archive"
	"hapax/image/inspect"
)

func newUnpack() *cobra.Command {
	options := inspect.UnpackOptions{Limits: archive.Limits{Content: 4 << 30, Entries: 250_000}}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "unpack [flags] IMAGE DIR",
		Short: "Unpack an image into a folder",
		Long: `Unpack an image into DIR, which is empty or does not exist yet. All its archives are put on top of one another, as the
kernel does it.

The image may come from anywhere: nothing outside of DIR is touched, and a name or link that leads out of it, or more content
than the limits allow, is an error. Device nodes and owners are left out unless --as-root asks for them.`,
		Example: `  hapax unpack /boot/initrd.img-$(uname -r) initramfs
  hapax unpack --archive 1 initrd.img microcode`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			source, err := inspect.Open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer source.Close()
			done, err := inspect.Unpack(source, args[1], options)
			if err != nil {
				if done.Files > 0 {
					err = fmt.Errorf("%w; %s has the files before that", err, args[1])
				}
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Dir     string `json:"dir"`
					Files   int    `json:"files"`
					Bytes   int64  `json:"bytes"`
					Skipped int    `json:"skipped"`
				}{args[1], done.Files, done.Bytes, done.Skipped})
			}
			line := fmt.Sprintf("%s: %d files, %s", args[1], done.Files, formatBytes(done.Bytes))
			if done.Skipped > 0 {
				line += fmt.Sprintf(", without %d device nodes and the like (--as-root makes them)", done.Skipped)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
			return err
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&options.Archive, "archive", 0, "unpack archive `N` alone, counted from 1 (default all)")
	flags.BoolVar(&options.AsRoot, "as-root", false, "make device nodes, too, and keep owners and set-user-id bits")
	flags.Func("max-size", "stop at more than `SIZE` of content: bytes, or with k, M or G (default 4G)", func(text string) (err error) {
		options.Limits.Content, err = parseSize(text)
		return err
	})
	flags.Func("max-files", "stop at more than `N` files (default 250000)", func(text string) (err error) {
		options.Limits.Entries, err = parseCount(text)
		return err
	})
	flags.BoolVar(&asJSON, "json", false, "print the summary as JSON")
	return cmd
}

// parseSize reads a number of bytes such as "512", "64k", "16M" or "4G".
func parseSize(text string) (int64, error) {
	digits, unit := text, int64(1)
	if n := len(text); n > 0 {
		switch text[n-1] {
		case 'k', 'K':
			digits, unit = text[:n-1], 1<<10
		case 'M', 'm':
			digits, unit = text[:n-1], 1<<20
		case 'G', 'g':
			digits, unit = text[:n-1], 1<<30
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > 1<<40/unit {
		return 0, errors.New(strconv.Quote(text) + " is no size: use a number of bytes, or one with k, M or G")
	}
	return n * unit, nil
}
