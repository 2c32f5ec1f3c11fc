package base

import (
	"errors"
	"os"
	"path/filepath"
)

// seedFile keeps what the kernel's random generator knew. It is of use where /var/lib outlives a boot.
const seedFile = "/var/lib/hapax/random-seed"

// seedSize is the pool of the kernel's generator, 256 bits.
const seedSize = 32

// seed stirs the seed of an earlier boot into the kernel's random generator and puts another in its place. It counts as entropy
// only with hapax.seed=credit, which promises that no two machines start from one copy of the file, and only after the file has
// gone for good, so that a loss of power does not have the next boot use it again.
//
// A machine with virtio-rng or an RDSEED instruction needs none of this, and the kernel gathers its own in about a second.
func (s *System) seed() error {
	text, err := s.read(seedFile)
	if errors.Is(err, os.ErrNotExist) {
		return s.saveSeed()
	}
	if err != nil {
		return err
	}
	seed := []byte(text[:min(len(text), seedSize)])
	defer clear(seed)
	err = s.write("/dev/urandom", string(seed))
	if how, _ := s.Params.Lookup("hapax.seed"); how == "credit" && len(seed) == seedSize && err == nil {
		if err = s.removeSeed(); err == nil {
			err = s.Credit(seed)
		}
	}
	return errors.Join(err, s.saveSeed())
}

// removeSeed has the file gone from the disk, too.
func (s *System) removeSeed() error {
	if err := os.Remove(s.Root + seedFile); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(s.Root + seedFile))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// saveSeed writes a seed for the next boot, if there is a folder for it: who mounts a disk there makes one. It is not left to the
// shutdown, which a machine that loses its power never sees.
func (s *System) saveSeed() error {
	if st, err := os.Stat(s.Root + filepath.Dir(seedFile)); err != nil || !st.IsDir() {
		return nil
	}
	var b [seedSize]byte
	defer clear(b[:])
	if err := s.Random(b[:]); err != nil {
		return err
	}
	return s.replace(seedFile, b[:], 0o600)
}
