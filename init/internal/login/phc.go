package login

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// A hash is a password's, by argon2id (RFC 9106).
type hash struct {
	memory uint32 // KiB
	passes uint32
	lanes  uint8
	salt   []byte
	sum    []byte
}

// Bounds of a hash. The builder makes none outside of them, and a damaged file must not have the machine work for ever.
const (
	maxMemory = 1 << 20 // KiB: 1 GiB
	maxPasses = 64
	maxLanes  = 16
	minSalt   = 8
	minSum    = 16
	maxBytes  = 64 // of salt and sum
)

var errHash = errors.New("not of the form $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH")

// parseHash reads a hash in the PHC string format, as argon2(1) -e writes it.
func parseHash(text string) (hash, error) {
	f := strings.Split(text, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v="+strconv.Itoa(argon2.Version) {
		return hash{}, errHash
	}
	var h hash
	costs := strings.Split(f[3], ",")
	if len(costs) != 3 {
		return hash{}, errHash
	}
	for i, c := range []struct {
		key string
		max uint64
		set func(n uint64)
	}{
		{"m=", maxMemory, func(n uint64) { h.memory = uint32(n) }},
		{"t=", maxPasses, func(n uint64) { h.passes = uint32(n) }},
		{"p=", maxLanes, func(n uint64) { h.lanes = uint8(n) }},
	} {
		digits, ok := strings.CutPrefix(costs[i], c.key)
		n, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil {
			return hash{}, errHash
		}
		if n == 0 || n > c.max {
			return hash{}, fmt.Errorf("%s: want 1 to %d", costs[i], c.max)
		}
		c.set(n)
	}
	var err error
	if h.salt, err = base64.RawStdEncoding.Strict().DecodeString(f[4]); err != nil || len(h.salt) < minSalt || len(h.salt) > maxBytes {
		return hash{}, fmt.Errorf("the salt has to be %d to %d bytes in base64", minSalt, maxBytes)
	}
	if h.sum, err = base64.RawStdEncoding.Strict().DecodeString(f[5]); err != nil || len(h.sum) < minSum || len(h.sum) > maxBytes {
		return hash{}, fmt.Errorf("the hash has to be %d to %d bytes in base64", minSum, maxBytes)
	}
	return h, nil
}

// fits reports whether password is the one of the hash. It takes as long for a wrong one.
func (h hash) fits(password []byte) bool {
	sum := argon2.IDKey(password, h.salt, h.passes, h.memory, h.lanes, uint32(len(h.sum)))
	defer clear(sum)
	return subtle.ConstantTimeCompare(sum, h.sum) == 1
}
