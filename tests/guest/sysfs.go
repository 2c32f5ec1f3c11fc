package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"hapax/tests/internal/guest"
)

// devices lists the devices of sysfs that have a modalias or a driver. Those that vanish meanwhile are left out.
func devices(sysfs string) ([]guest.Device, error) {
	all := []guest.Device{}
	err := filepath.WalkDir(filepath.Join(sysfs, "devices"), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || (err == nil && !d.IsDir()) {
			return nil
		}
		if err != nil {
			return err
		}
		dev := guest.Device{Path: strings.TrimPrefix(path, sysfs)}
		if b, err := os.ReadFile(filepath.Join(path, "modalias")); err == nil {
			dev.Modalias = strings.TrimSpace(string(b))
		}
		if link, err := os.Readlink(filepath.Join(path, "driver")); err == nil {
			dev.Driver = filepath.Base(link)
		}
		if dev.Modalias != "" || dev.Driver != "" {
			all = append(all, dev)
		}
		return nil
	})
	return all, err
}

// nodes lists the device files and the links below dev. Those that vanish meanwhile are left out.
func nodes(dev string) ([]guest.Node, error) {
	all := []guest.Node{}
	err := filepath.WalkDir(dev, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		n := guest.Node{Name: strings.TrimPrefix(path, dev+"/")}
		if d.Type()&fs.ModeSymlink != 0 {
			n.Link, err = os.Readlink(path)
		} else {
			var st unix.Stat_t
			err = unix.Lstat(path, &st)
			n.Mode, n.UID, n.GID = st.Mode&0o7777, st.Uid, st.Gid
		}
		if err == nil {
			all = append(all, n)
		}
		return nil
	})
	return all, err
}
