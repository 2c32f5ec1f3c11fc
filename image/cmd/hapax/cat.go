package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"hapax/image/inspect"
)

func newCat() *cobra.Command {
	return &cobra.Command{
		Use:   "cat IMAGE FILE...",
		Short: "Print files of an image",
		Long: `Print files of an image as they are when the kernel has unpacked all of it: of several with one name the last, and what
a link leads to inside of the image. What is compressed by itself, such as a module, stays so.`,
		Example: `  hapax cat /boot/initrd.img-$(uname -r) etc/initrd-release`,
		Args:    cobra.MinimumNArgs(2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return fileNames(cmd, args[0]), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			source, err := inspect.Open(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer source.Close()
			tree, err := inspect.Read(source, inspect.Options{})
			if err != nil {
				return err
			}
			var files []*inspect.File
			for _, name := range args[1:] {
				f, ok := tree.Lookup(name)
				if !ok {
					return fmt.Errorf("%s: there is no %s in it: hapax ls %[1]s lists what there is", args[0], name)
				}
				if !f.Mode.IsRegular() {
					return fmt.Errorf("%s: %s is no regular file", args[0], name)
				}
				files = append(files, f)
			}
			if err := tree.Load(files...); err != nil {
				return err
			}
			for _, f := range files {
				if _, err := cmd.OutOrStdout().Write(f.Content.Data); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// fileNames returns the regular files of an image for the completion of a command line, none of one that cannot be read.
func fileNames(cmd *cobra.Command, image string) (names []cobra.Completion) {
	source, err := inspect.Open(cmd.Context(), image)
	if err != nil {
		return nil
	}
	defer source.Close()
	tree, err := inspect.Read(source, inspect.Options{})
	if err != nil {
		return nil
	}
	for _, f := range tree.Files() {
		if f.Mode.IsRegular() {
			names = append(names, f.Path)
		}
	}
	return names
}
