package main

import (
	"github.com/spf13/cobra"

	"hapax/image"
)

// addFormatFlags adds what decides about the format of an image, and what the formats other than initramfs take.
func addFormatFlags(cmd *cobra.Command, spec *image.Spec) {
	flags := cmd.Flags()
	addChoice(cmd, &spec.Format, "format", "what to build", image.Formats()...)
	flags.StringVar(&spec.Kernel, "kernel", "", "put the kernel `FILE` into the image (default that of the modules)")
	flags.StringVar(&spec.Cmdline, "cmdline", "", "kernel command line `STR`")
	flags.StringVar(&spec.OSRelease, "os-release", "", "os-release(5) `FILE` that a boot menu shows (default that of --root)")
	flags.StringVar(&spec.Stub, "stub", "", "systemd's EFI stub `FILE` (default that of --root)")
	flags.StringVar(&spec.Splash, "splash", "", "BMP picture `FILE` that the stub shows")
	flags.StringVar(&spec.SBAT, "sbat", "", "add the SBAT lines of `FILE` to those of the stub")
	flags.StringArrayVar(&spec.BootProfiles, "boot-profile", nil,
		"add a choice to the boot menu, `ID[:TITLE]=CMDLINE`; the first is the default, and one without command line has that of --cmdline "+
			"(repeatable; needs the stub of systemd 257)")
	flags.StringVar(&spec.SignKey, "sign-key", "", "sign for Secure Boot with the RSA key `FILE|pkcs11:URI`")
	flags.StringVar(&spec.SignCert, "sign-cert", "", "certificate `FILE` of the key, PEM")
	flags.StringVar(&spec.SignModule, "pkcs11-module", "", "shared library `FILE` that speaks to the token with the key")
	addChoice(cmd, &spec.Layout, "layout", "kernel and initramfs as one EFI program, or as files with a loader entry", image.Layouts()...)
	flags.StringVar(&spec.Loader, "boot-loader", "", "start systemd-boot, the EFI program `FILE`, first (default the kernel at once)")
	flags.StringVar(&spec.RootPartition, "root-partition", "",
		"add a partition with the file system image `FILE|DIR`; of a folder an erofs is made")
	flags.Int64Var(&spec.ESPSize, "esp-size", 0, "size of the EFI system partition in `MIB` (default what is needed and a quarter more)")
	flags.IntVar(&spec.SectorSize, "sector-size", 0, "`BYTES` of a sector of the disk: 512 or 4096 (default 512)")
	addChoice(cmd, &spec.DiskType, "disk-type", "how to write the disk", image.DiskTypes()...)
}
