package main

import (
	"github.com/spf13/cobra"

	"hapax/image/profile"
)

func newProfile() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profile",
		Short: "Describe machines, so that images can be built for them elsewhere",
	}
	var root string
	record := &cobra.Command{
		Use:   "record [flags]",
		Short: "Print what an image for this machine needs to know",
		Long: `Print the modaliases of this machine's devices, and what its root, its keyboard and its console need, as JSON.
There are no serial numbers, addresses or UUIDs in it. hapax build --mode profile --profile FILE serves the machines of one
or more such files.`,
		Example: `  hapax profile record > $(uname -n).json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := profile.Record(root)
			if err != nil {
				return err
			}
			return p.Write(cmd.OutOrStdout())
		},
	}
	record.Flags().StringVar(&root, "host-root", "/", "describe the machine whose sys and proc are in `DIR`")
	cmd.AddCommand(record)
	return cmd
}
