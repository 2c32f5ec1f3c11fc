package uki

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"debug/pe"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/foxboron/go-uefi/pkcs7"

	"hapax/image/sparse"
)

// A Signer signs EFI programs so that a firmware that trusts its certificate starts them under Secure Boot.
type Signer struct {
	key         crypto.Signer
	certificate *x509.Certificate
	chain       []*x509.Certificate
}

// What firmware verifies: the UEFI specification asks for RSA of 2048 bits.
const minKeyBits = 2048

// NewSigner reads an RSA key and its certificate, both PEM. Further certificates of the file become part of signatures.
func NewSigner(key, certificates []byte) (*Signer, error) {
	private, err := parseKey(key)
	if err != nil {
		return nil, err
	}
	s := &Signer{key: private}
	for rest := certificates; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		s.chain = append(s.chain, c)
	}
	if len(s.chain) == 0 {
		return nil, errors.New("certificate: there is none in PEM form")
	}
	s.certificate, s.chain = s.chain[0], s.chain[1:]
	if !private.PublicKey.Equal(s.certificate.PublicKey) {
		return nil, errors.New("certificate: the first one is not that of the key")
	}
	return s, nil
}

func parseKey(data []byte) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("key: it is not in PEM form")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		if block.Headers["DEK-Info"] != "" {
			return nil, errors.New("key: it is encrypted: decrypt it (openssl rsa) or keep it on a token")
		}
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("key: it is encrypted: decrypt it (openssl pkcs8) or keep it on a token")
	default:
		return nil, fmt.Errorf("key: the file holds a %s", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key: firmware does not verify a %T: use RSA", key)
	}
	if bits := private.N.BitLen(); bits < minKeyBits {
		return nil, fmt.Errorf("key: RSA of %d bits: firmware wants %d", bits, minKeyBits)
	}
	return private, nil
}

// LoadSigner is NewSigner with files.
func LoadSigner(keyFile, certificateFile string) (*Signer, error) {
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	certificates, err := os.ReadFile(certificateFile)
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	s, err := NewSigner(key, certificates)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", keyFile, certificateFile, err)
	}
	return s, nil
}

// Sign returns an EFI program with a signature, which takes the place of those that were there. It is the Authenticode form
// without signed attributes: these would hold the time, and firmware does not look at them.
func (s *Signer) Sign(program *io.SectionReader) (*sparse.Image, error) {
	p, err := readProgram(program)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, p.hashed()); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	data, err := indirectData([sha256.Size]byte(h.Sum(nil)))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	signature, err := pkcs7.SignPKCS7(s.key, s.certificate, identifier(oidIndirectData), data, pkcs7.NoAttr(),
		pkcs7.WithAdditionalCerts(s.chain))
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return p.with(signature)
}

// A program is an EFI program as far as its signature is concerned.
type program struct {
	content     *io.SectionReader // without an old signature
	head        []byte
	checksumAt  int64
	directoryAt int64 // offset of the entry that says where the signature is
}

// readProgram finds what is to be hashed. Authenticode skips what lies between sections; a file with such a gap could be
// changed there without an effect on the signature, so it is refused.
func readProgram(r *io.SectionReader) (*program, error) {
	f, optional, err := readPE(r, maxProgram)
	if err != nil {
		return nil, err
	}
	dos, err := beforePE(r)
	if err != nil {
		return nil, err
	}
	if optional.NumberOfRvaAndSizes <= pe.IMAGE_DIRECTORY_ENTRY_SECURITY || optional.SizeOfHeaders > 1<<20 {
		return nil, errors.New("its head has no room for a signature")
	}
	next := int64(optional.SizeOfHeaders)
	for _, c := range f.Sections {
		if c.Size == 0 {
			continue
		}
		if int64(c.Offset) != next {
			return nil, fmt.Errorf("its section %s begins at %d, what is before it ends at %d", c.Name, c.Offset, next)
		}
		next += int64(c.Size)
	}
	size := r.Size()
	if old := optional.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_SECURITY]; old.Size != 0 {
		if end := int64(old.VirtualAddress) + int64(old.Size); end != size {
			return nil, fmt.Errorf("its signature ends at %d, the file at %d", end, size)
		}
		size = int64(old.VirtualAddress)
	}
	if next > size {
		return nil, fmt.Errorf("its sections end at %d, the file at %d", next, size)
	}
	p := &program{content: io.NewSectionReader(r, 0, size), head: make([]byte, optional.SizeOfHeaders)}
	at := int64(len(dos) + len(peMagic) + fileHeaderSize)
	p.checksumAt = at + checksumAt
	p.directoryAt = at + optionalHeaderSize - 8*(directories-pe.IMAGE_DIRECTORY_ENTRY_SECURITY)
	if p.directoryAt+8 > int64(len(p.head)) {
		return nil, errors.New("its head is too short")
	}
	if _, err := p.content.ReadAt(p.head, 0); err != nil {
		return nil, err
	}
	return p, nil
}

// padding returns the zeros between the program and its signature, which begins at a multiple of eight.
func (p *program) padding() int64 { return -p.content.Size() & 7 }

// hashed returns what a signature is about: all but the checksum and the place of the signature.
func (p *program) hashed() io.Reader {
	part := func(from, to int64) io.Reader { return io.NewSectionReader(p.content, from, to-from) }
	return io.MultiReader(part(0, p.checksumAt), part(p.checksumAt+4, p.directoryAt),
		part(p.directoryAt+8, p.content.Size()), bytes.NewReader(make([]byte, p.padding())))
}

// with returns the program with a signature (PKCS #7, DER) at its end.
func (p *program) with(signature []byte) (*sparse.Image, error) {
	const certificateHeader = 8
	at := p.content.Size() + p.padding()
	le := binary.LittleEndian
	entry := le.AppendUint32(nil, uint32(certificateHeader+len(signature)))
	entry = le.AppendUint16(entry, 0x0200) // revision 2
	entry = le.AppendUint16(entry, 0x0002) // PKCS #7
	entry = append(entry, signature...)
	entry = append(entry, make([]byte, -len(entry)&7)...)

	le.PutUint32(p.head[p.checksumAt:], 0)
	le.PutUint32(p.head[p.directoryAt:], uint32(at))
	le.PutUint32(p.head[p.directoryAt+4:], uint32(len(entry)))
	image := sparse.New(at + int64(len(entry)))
	image.Put(0, p.head)
	rest := int64(len(p.head))
	image.PutReader(rest, io.NewSectionReader(p.content, rest, p.content.Size()-rest))
	image.Put(at, entry)
	sum, err := checksum(image.Reader())
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	le.PutUint32(p.head[p.checksumAt:], sum)
	return image, nil
}

// checksum returns the sum of a PE file whose field for it is 0: that of its 16-bit words with the carry added again, plus
// its size.
func checksum(r *io.SectionReader) (uint32, error) {
	buffer := make([]byte, 1<<20)
	sum := uint64(0)
	for {
		n, err := io.ReadFull(r, buffer)
		if n%2 != 0 {
			buffer[n] = 0
		}
		for i := 0; i < n; i += 2 {
			sum += uint64(binary.LittleEndian.Uint16(buffer[i:]))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint32(sum + uint64(r.Size())), nil
}
