package uki

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hapax/tests/need"
)

// softhsm is a PKCS #11 module that keeps its keys in files.
const softhsm = "/usr/lib/softhsm/libsofthsm2.so"

// newToken puts the key of a pair into a token and returns it.
func newToken(t *testing.T, p pair) Token {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(config, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", config)
	for _, args := range [][]string{
		{"--init-token", "--free", "--label", "hapax", "--pin", "1234", "--so-pin", "1234"},
		{"--import", write(t, p.key), "--token", "hapax", "--label", "signing", "--id", "01", "--pin", "1234"},
	} {
		if out, err := exec.CommandContext(t.Context(), "softhsm2-util", args...).CombinedOutput(); err != nil {
			need.Unmet(t, "needs softhsm2, which go run ./tests/setup --for test installs: %v: %s", err, out)
		}
	}
	return Token{
		Key:    "pkcs11:token=hapax;object=signing;type=private?pin-value=1234",
		Module: softhsm, Certificate: write(t, p.certificate), Time: time.Unix(1_700_000_000, 0),
	}
}

// A key on a token signs as well as one in a file, and the same bytes each time.
func TestToken(t *testing.T) {
	p := newPair(t, 2048)
	token := newToken(t, p)
	program := build(t, fakeSpec(t, "252"))
	var signed [2][]byte
	for i := range signed {
		m, err := token.Sign(t.Context(), reader(program))
		if err != nil {
			t.Fatal(err)
		}
		if signed[i], err = io.ReadAll(m.Reader()); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(signed[0], signed[1]) {
		t.Error("two signatures of one program differ")
	}
	if got := verify(t, p, write(t, signed[0])); !got["sbverify"] || !got["osslsigncode"] {
		t.Errorf("the signature is good for %v", got)
	}
}

func TestTokenRefused(t *testing.T) {
	p := newPair(t, 2048)
	token := newToken(t, p)
	program := build(t, fakeSpec(t, "252"))
	if _, err := token.Sign(t.Context(), stringReader("text")); err == nil || !strings.Contains(err.Error(), "no PE file") {
		t.Errorf("what is no program: %v", err)
	}
	wrong := token
	wrong.Key = strings.Replace(token.Key, "signing", "absent", 1)
	if _, err := wrong.Sign(t.Context(), reader(program)); err == nil || !strings.Contains(err.Error(), Program) {
		t.Errorf("a key that is not there: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := token.Sign(t.Context(), reader(program)); err == nil || !strings.Contains(err.Error(), "install osslsigncode") {
		t.Errorf("without osslsigncode: %v", err)
	}
}
