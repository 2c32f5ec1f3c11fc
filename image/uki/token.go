package uki

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"hapax/image/sparse"
)

// A Token signs EFI programs with a key that does not leave its hardware, through osslsigncode and a PKCS #11 module.
type Token struct {
	Key         string // an URI of RFC 7512, such as "pkcs11:token=T;object=O"; it may hold the PIN
	Module      string // the shared library that speaks to the token
	Certificate string // file, PEM
	Time        time.Time
}

// Program is what Token runs. Debian's package has the same name; it needs libengine-pkcs11-openssl as well.
const Program = "osslsigncode"

// Sign returns an EFI program with a signature. It writes the program to a temporary folder, for osslsigncode reads files.
func (t Token) Sign(ctx context.Context, program *io.SectionReader) (signed *sparse.Image, err error) {
	p, err := readProgram(program) // what is refused there would be refused here too, with other words
	if err != nil {
		return nil, err
	}
	path, err := exec.LookPath(Program)
	if err != nil {
		return nil, fmt.Errorf("sign with a token: %w: install %s and libengine-pkcs11-openssl", err, Program)
	}
	dir, err := os.MkdirTemp("", "hapax-sign-")
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	in, out := filepath.Join(dir, "in.efi"), filepath.Join(dir, "out.efi")
	if err := writeContent(in, p.content); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, "sign", "-pkcs11module", t.Module, "-key", t.Key, "-certs", t.Certificate,
		"-h", "sha256", "-time", strconv.FormatInt(t.Time.Unix(), 10), "-in", in, "-out", out)
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", Program, err, lastLines(said))
	}
	content, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("%s has written nothing: %w", Program, err)
	}
	signed = sparse.New(int64(len(content)))
	signed.Put(0, content)
	return signed, nil
}

func writeContent(file string, content *io.SectionReader) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("%w", err)
	}
	_, err = io.Copy(f, io.NewSectionReader(content, 0, content.Size()))
	return errors.Join(err, f.Close())
}

// lastLines returns the end of what a program said, on one line.
func lastLines(said []byte) string {
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}
