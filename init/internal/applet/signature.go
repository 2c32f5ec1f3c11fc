package applet

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// A field is one line of modinfo(8).
type field struct{ key, value string }

// signatureFields returns what modinfo shows of the signature at the end of a
// module (scripts/sign-file.c of the kernel), nil if there is none that it knows.
func signatureFields(file []byte) []field {
	rest, ok := bytes.CutSuffix(file, []byte("~Module signature appended~\n"))
	if !ok || len(rest) < 12 {
		return nil
	}
	// struct module_signature: algo, hash, id_type, signer_len, key_id_len, 3 bytes of padding, sig_len
	tail := rest[len(rest)-12:]
	rest = rest[:len(rest)-12]
	const pkcs7 = 2 // the only id_type that sign-file has written since 4.3
	size := binary.BigEndian.Uint32(tail[8:])
	if tail[2] != pkcs7 || size == 0 || uint64(size) > uint64(len(rest)) {
		return nil
	}
	s, ok := parseSigner(rest[len(rest)-int(size):])
	if !ok {
		return nil
	}
	return []field{
		{"sig_id", "PKCS#7"},
		{"signer", s.issuer},
		{"sig_key", hexLines(s.serial)},
		{"sig_hashalgo", s.hash},
		{"signature", hexLines(s.signature)},
	}
}

// hexLines returns b as "01:12:DE:", 20 bytes a line, as modinfo has it.
func hexLines(b []byte) string {
	var out strings.Builder
	for i, c := range b {
		out.WriteString(strings.ToUpper(hex.EncodeToString([]byte{c})))
		if i == len(b)-1 {
			break
		}
		out.WriteByte(':')
		if (i+1)%20 == 0 {
			out.WriteString("\n\t\t")
		}
	}
	return out.String()
}

// A signer is the first SignerInfo of a PKCS#7 message (RFC 2315, section 9.2).
type signer struct {
	issuer, hash      string
	serial, signature []byte
}

// The tags of DER that occur on the way.
const (
	tagInteger  = 0x02
	tagOctets   = 0x04
	tagOID      = 0x06
	tagSequence = 0x30
	tagSet      = 0x31
	tagFirst    = 0xa0 // [0], constructed
	tagSecond   = 0xa1
)

// A der is a run of DER values. What is not as expected leaves it broken, and all that follows empty.
type der struct {
	b      []byte
	broken bool
}

// next takes the next value, which has to have that tag, and returns its contents.
func (d *der) next(tag byte) *der {
	if d.broken || len(d.b) < 2 || d.b[0] != tag {
		d.b, d.broken = nil, true
		return &der{broken: true}
	}
	size, rest := int(d.b[1]), d.b[2:]
	if size >= 0x80 {
		digits := size & 0x7f
		if digits == 0 || digits > 4 || digits > len(rest) {
			d.b, d.broken = nil, true
			return &der{broken: true}
		}
		size = 0
		for _, c := range rest[:digits] {
			size = size<<8 | int(c)
		}
		rest = rest[digits:]
	}
	if size > len(rest) {
		d.b, d.broken = nil, true
		return &der{broken: true}
	}
	d.b = rest[size:]
	return &der{b: rest[:size]}
}

// skip takes the next value if it has that tag.
func (d *der) skip(tag byte) {
	if len(d.b) > 0 && d.b[0] == tag {
		d.next(tag)
	}
}

// parseSigner reads SignedData as sign-file makes it.
func parseSigner(b []byte) (s signer, ok bool) {
	info := (&der{b: b}).next(tagSequence)
	info.next(tagOID)
	data := info.next(tagFirst).next(tagSequence)
	data.next(tagInteger)
	data.next(tagSet)
	data.next(tagSequence)
	data.skip(tagFirst)
	data.skip(tagSecond)

	one := data.next(tagSet).next(tagSequence)
	one.next(tagInteger)
	id := one.next(tagSequence)
	s.issuer = commonName(id.next(tagSequence))
	s.serial = bytes.TrimLeft(id.next(tagInteger).b, "\x00")
	s.hash = hashName(one.next(tagSequence).next(tagOID).b)
	one.skip(tagFirst)
	one.next(tagSequence)
	s.signature = one.next(tagOctets).b
	return s, !one.broken && !id.broken && s.hash != ""
}

// commonName returns the CN of a Name or, as libkmod, its last part if it has none.
func commonName(name *der) (text string) {
	for len(name.b) > 0 {
		part := name.next(tagSet).next(tagSequence)
		kind := part.next(tagOID).b
		if len(part.b) > 0 {
			text = string(part.next(part.b[0]).b)
		}
		if string(kind) == "\x55\x04\x03" { // 2.5.4.3
			break
		}
	}
	return text
}

// hashName returns the name of a digest algorithm, "" for one that modules do not have.
func hashName(oid []byte) string {
	switch string(oid) {
	case "\x2b\x0e\x03\x02\x1a":
		return "sha1"
	case "\x60\x86\x48\x01\x65\x03\x04\x02\x01":
		return "sha256"
	case "\x60\x86\x48\x01\x65\x03\x04\x02\x02":
		return "sha384"
	case "\x60\x86\x48\x01\x65\x03\x04\x02\x03":
		return "sha512"
	case "\x60\x86\x48\x01\x65\x03\x04\x02\x04":
		return "sha224"
	}
	return ""
}
