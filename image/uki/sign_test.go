package uki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hapax/tests/need"
)

// A pair is a key and its certificate, PEM.
type pair struct{ key, certificate []byte }

func newPair(t testing.TB, bits int) pair {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "hapax test"}, NotBefore: time.Unix(0, 0),
		NotAfter: time.Unix(1<<32, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	return pair{encode("PRIVATE KEY", der), encode("CERTIFICATE", certificate)}
}

// sign returns a signed program, in a file too.
func sign(t *testing.T, p pair, program []byte) ([]byte, string) {
	t.Helper()
	s, err := NewSigner(p.key, p.certificate)
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Sign(reader(program))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := io.ReadAll(m.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return signed, write(t, signed)
}

func write(t *testing.T, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// verify asks sbverify and osslsigncode about a file.
func verify(t *testing.T, p pair, file string) map[string]bool {
	t.Helper()
	good := map[string]bool{}
	certificate := write(t, p.certificate)
	for _, args := range [][]string{
		{"sbverify", "--cert", certificate, file}, {"osslsigncode", "verify", "-CAfile", certificate, "-in", file},
	} {
		need.Tools(t, args[0])
		out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
		good[args[0]] = err == nil && !bytes.Contains(out, []byte("MISMATCH")) // of the checksum
		if !good[args[0]] {
			t.Logf("%s: %v\n%s", args[0], err, out)
		}
	}
	return good
}

func TestSign(t *testing.T) {
	t.Parallel()
	p, stranger := newPair(t, 2048), newPair(t, 2048)
	program := build(t, fakeSpec(t, "252"))
	signed, file := sign(t, p, program)
	if got := verify(t, p, file); !got["sbverify"] || !got["osslsigncode"] {
		t.Errorf("the signature is good for %v", got)
	}
	out, err := exec.CommandContext(t.Context(), "sbverify", "--cert", write(t, p.certificate), file).CombinedOutput()
	if err != nil || string(out) != "Signature verification OK\n" {
		t.Errorf("sbverify has more to say: %s (%v)", out, err)
	}
	if again, _ := sign(t, p, program); !bytes.Equal(again, signed) {
		t.Error("two signatures of one program differ")
	}
	if got := verify(t, stranger, file); got["sbverify"] || got["osslsigncode"] {
		t.Errorf("with another certificate the signature is good for %v", got)
	}
	// A new signature takes the place of the old one.
	again, file := sign(t, stranger, signed)
	if got := verify(t, stranger, file); !got["sbverify"] || !got["osslsigncode"] {
		t.Errorf("signed again, the signature is good for %v", got)
	}
	if len(again) != len(signed) {
		t.Errorf("signed again, %d bytes became %d", len(signed), len(again))
	}
	tampered := bytes.Clone(signed)
	tampered[bytes.Index(tampered, []byte("initramfs"))] ^= 1
	if got := verify(t, p, write(t, tampered)); got["sbverify"] || got["osslsigncode"] {
		t.Errorf("changed, the signature is good for %v", got)
	}
}

// A file need not have been made here to be signed: Debian's boot loader has symbols behind its sections.
func TestSignOthers(t *testing.T) {
	t.Parallel()
	const loader = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
	program, err := os.ReadFile(loader)
	if err != nil {
		need.Unmet(t, "needs systemd-boot-efi, which go run ./tests/setup --for test installs: %v", err)
	}
	p := newPair(t, 2048)
	_, file := sign(t, p, program)
	if got := verify(t, p, file); !got["sbverify"] || !got["osslsigncode"] {
		t.Errorf("the signature is good for %v", got)
	}
}

func TestSignRefused(t *testing.T) {
	t.Parallel()
	p := newPair(t, 2048)
	s, err := NewSigner(p.key, p.certificate)
	if err != nil {
		t.Fatal(err)
	}
	gap := fakeKernel()
	gap.sections = append(gap.sections, fakeSection{name: ".gap", address: 0x2000, data: "x", flags: data})
	gapped := gap.bytes(t)
	gapped = append(gapped, make([]byte, 512)...)
	gapped[64+4+20+240+40+20+1] += 2 // the second section's offset, by 512
	for want, program := range map[string][]byte{
		"no PE file":   []byte("text"),
		"before it":    gapped,
		"sections end": fakeKernel().bytes(t)[:600],
	} {
		if _, err := s.Sign(reader(program)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Sign = %v, want %q", err, want)
		}
	}
}

func TestNewSignerRefused(t *testing.T) {
	t.Parallel()
	p, other, weak := newPair(t, 2048), newPair(t, 2048), newPair(t, 1024)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, content []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
	}
	for _, tt := range []struct {
		want             string
		key, certificate []byte
	}{
		{"not in PEM form", []byte("text"), p.certificate},
		{"holds a CERTIFICATE", p.certificate, p.certificate},
		{"is encrypted", block("ENCRYPTED PRIVATE KEY", []byte("x")), p.certificate},
		{"key: ", block("PRIVATE KEY", []byte("x")), p.certificate},
		{"use RSA", block("PRIVATE KEY", der), p.certificate},
		{"firmware wants 2048", weak.key, weak.certificate},
		{"not that of the key", p.key, other.certificate},
		{"there is none", p.key, p.key},
		{"certificate: ", p.key, block("CERTIFICATE", []byte("x"))},
	} {
		if _, err := NewSigner(tt.key, tt.certificate); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("NewSigner = %v, want %q", err, tt.want)
		}
	}
	if _, err := LoadSigner(write(t, p.key), "/nonexistent"); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("LoadSigner without a certificate: %v", err)
	}
}
