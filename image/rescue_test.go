package image

import (
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"

	"hapax/image/archive"
	"hapax/image/assets"
	"hapax/tests/need"
)

// readImage returns the content of the files of an image.
func readImage(t *testing.T, file string) map[string][]byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := map[string][]byte{}
	for r := archive.NewReader(f, archive.Limits{}); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func unbase(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const someHash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"

// TestRescue builds with each policy, and with what does not fit together.
func TestRescue(t *testing.T) {
	t.Parallel()
	if _, err := assets.Extra(Arch("").name()); err != nil {
		need.Unmet(t, "%v", err)
	}
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(someHash+"\nmore\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		set      func(s *Spec)
		want     string // in etc/hapax/rescue; "" for no such file
		private  bool
		failures string
	}{
		{"no shell", func(*Spec) {}, "", false, ""},
		{"a shell", func(s *Spec) { s.Shell = s.Init }, "shell\n", false, ""},
		{"a shell for scripts", func(s *Spec) { s.Shell, s.Rescue = s.Init, RescueNone }, "", false, ""},
		{"a hash", func(s *Spec) { s.Shell, s.Rescue, s.Password = s.Init, RescuePassword, someHash }, someHash + "\n", true, ""},
		{"a file", func(s *Spec) { s.Shell, s.Rescue, s.PasswordFile = s.Init, RescuePassword, password }, someHash + "\n", true, ""},
		{"a password", func(s *Spec) { s.Shell, s.Rescue, s.Password = s.Init, RescuePassword, "swordfish" }, "$argon2id$v=19$m=19456,t=2,p=1$", true, ""},
		{"no shell to rescue with", func(s *Spec) { s.Rescue = RescueShell }, "", false, "--shell"},
		{"no password", func(s *Spec) { s.Shell, s.Rescue = s.Init, RescuePassword }, "", false, "--rescue-password-file"},
		{"a password for nothing", func(s *Spec) { s.Shell, s.Password = s.Init, "x" }, "", false, "no use for a password"},
		{"no hash", func(s *Spec) { s.Shell, s.Rescue, s.Password = s.Init, RescuePassword, "$1$x" }, "", false, "argon2"},
		{"untypable", func(s *Spec) { s.Shell, s.Rescue, s.Password = s.Init, RescuePassword, "a\x03" }, "", false, "no console"},
		{"too long", func(s *Spec) { s.Shell, s.Rescue, s.Password = s.Init, RescuePassword, strings.Repeat("x", 2000) }, "", false, "2000 bytes"},
	} {
		spec := testSpec(t)
		tt.set(&spec)
		_, err := Build(t.Context(), spec)
		if tt.failures != "" {
			if err == nil || !strings.Contains(err.Error(), tt.failures) {
				t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.failures)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		files := readImage(t, spec.Output)
		if got := string(files["etc/hapax/rescue"]); got != tt.want && (tt.name != "a password" || !strings.HasPrefix(got, tt.want)) {
			t.Errorf("%s: the policy is %q, want %q", tt.name, got, tt.want)
		}
		if _, has := files[extraFile]; has != tt.private {
			t.Errorf("%s: the program that asks is there: %v, want %v", tt.name, has, tt.private)
		}
		info, err := os.Stat(spec.Output)
		if err != nil || (info.Mode().Perm() == 0o600) != tt.private {
			t.Errorf("%s: mode %v, error %v", tt.name, info.Mode(), err)
		}
	}
}

// TestPasswordHash holds the hash that is written against the library, as the program in the image does.
func TestPasswordHash(t *testing.T) {
	t.Parallel()
	one, err := passwordHash("swordfish")
	if err != nil {
		t.Fatal(err)
	}
	two, err := passwordHash("swordfish")
	if err != nil || one == two {
		t.Errorf("two hashes with one salt: %s, %v", two, err)
	}
	if !phcFormat().MatchString(one) || strings.Contains(one, "swordfish") {
		t.Errorf("hash %s", one)
	}
	salt, sum := unbase(t, strings.Split(one, "$")[4]), unbase(t, strings.Split(one, "$")[5])
	if string(argon2.IDKey([]byte("swordfish"), salt, hashPasses, hashMemory, hashLanes, hashSum)) != string(sum) {
		t.Errorf("%s is not the hash", one)
	}
}
