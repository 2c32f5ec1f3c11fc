package image

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"golang.org/x/crypto/argon2"

	"hapax/image/archive"
)

// A Rescue says who gets the shell of an image when a boot cannot go on, at rd.break= and where nothing was to be booted.
type Rescue string

// The policies of a rescue.
const (
	RescueNone     Rescue = "none"     // nobody
	RescueShell    Rescue = "shell"    // who is at the console
	RescuePassword Rescue = "password" // who knows the password, too
)

// Rescues returns the policies, the strictest first.
func Rescues() []Rescue { return []Rescue{RescueNone, RescueShell, RescuePassword} }

// UnmarshalText refuses what is no policy.
func (r *Rescue) UnmarshalText(text []byte) error { return unmarshalWord(r, Rescues(), text) }

// rescueDefault is the policy of an image with a given shell where the Spec names none.
func rescueDefault(shell string) Rescue {
	if shell == NoShell {
		return RescueNone
	}
	return RescueShell
}

// checkRescue finds what does not fit together.
func (s Spec) checkRescue() error {
	switch {
	case s.Rescue != RescueNone && s.Shell == NoShell:
		return fmt.Errorf("rescue %s needs a shell in the image: give --shell u-root or --shell FILE", s.Rescue)
	case s.Rescue == RescuePassword && s.Password == "" && s.PasswordFile == "":
		return errors.New("rescue password needs one: give --rescue-password-file FILE, or run this on a terminal")
	case s.Rescue != RescuePassword && s.Password+s.PasswordFile != "":
		return fmt.Errorf("rescue %s has no use for a password: leave it out, or say --rescue password", s.Rescue)
	}
	return nil
}

// addRescue adds what the guard reads before it starts a shell (init/internal/handoff, RescuePath). An image without the file
// gives no shell.
func (b *builder) addRescue(context.Context) error {
	const file = "etc/hapax/rescue"
	switch b.spec.Rescue {
	case RescueShell:
		return b.add(archive.Bytes(file, 0o644, []byte("shell\n")), "--rescue")
	case RescuePassword:
		password, err := b.password()
		if err != nil {
			return err
		}
		hash, err := passwordHash(password)
		if err != nil {
			return err
		}
		if err := b.addExtra("--rescue password", loginFile); err != nil {
			return err
		}
		return b.add(archive.Bytes(file, 0o600, []byte(hash+"\n")), "--rescue") // which makes the image as private
	}
	return nil
}

// password returns what the Spec says, or else the first line of the file.
func (b *builder) password() (string, error) {
	if b.spec.PasswordFile == "" {
		return b.spec.Password, nil
	}
	f, err := os.Open(b.spec.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("%w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return "", fmt.Errorf("%w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", fmt.Errorf("%s: the first line has to be the password or its hash, and is empty", b.spec.PasswordFile)
	}
	if info, err := f.Stat(); err == nil && info.Mode()&0o044 != 0 && !strings.HasPrefix(line, "$") {
		b.warnf("%s: others may read the password: chmod 600 it, or put its hash there", b.spec.PasswordFile)
	}
	return line, nil
}

// program returns what stands for the shell on a console, "" for nothing.
func (r Rescue) program() string {
	switch r {
	case RescueShell:
		return "/bin/sh"
	case RescuePassword:
		return "/" + loginFile
	}
	return ""
}

// The costs of a new hash, those that OWASP recommends where memory counts: a machine of 128 MiB has to be able to check it.
const (
	hashMemory = 19 << 10 // KiB
	hashPasses = 2
	hashLanes  = 1
	hashSalt   = 16 // bytes
	hashSum    = 32 // bytes
)

// maxRescuePassword is what the program that asks for it reads of a line.
const maxRescuePassword = 1023

// passwordHash returns the hash of a password in the PHC format, or the password itself if it is one already. The salt is random,
// so images of one password differ; those of one hash do not.
func passwordHash(password string) (string, error) {
	switch {
	case strings.HasPrefix(password, "$"):
		if !phcFormat().MatchString(password) {
			return "", errors.New("the password begins with $, so it has to be a hash as argon2 -id -e prints it: $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH")
		}
		return password, nil
	case len(password) > maxRescuePassword:
		return "", fmt.Errorf("the password has %d bytes; the console takes %d", len(password), maxRescuePassword)
	case strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", errors.New("the password has a character that no console passes on")
	}
	salt := make([]byte, hashSalt)
	_, _ = rand.Read(salt) // never fails
	sum := argon2.IDKey([]byte(password), salt, hashPasses, hashMemory, hashLanes, hashSum)
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, hashMemory, hashPasses, hashLanes, b64(salt), b64(sum)), nil
}

// phcFormat finds slips of the pen. What the numbers may be is decided in the image, where a hash that is not taken leaves the
// shell locked.
func phcFormat() *regexp.Regexp {
	return regexp.MustCompile(`^\$argon2id\$v=19\$m=[1-9][0-9]{0,6},t=[1-9][0-9]?,p=[1-9][0-9]?\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}$`)
}
