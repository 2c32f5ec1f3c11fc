package uki

import (
	"crypto/sha256"
	"encoding/asn1"
	"unicode/utf16"
)

// Object identifiers of Microsoft's "Windows Authenticode Portable Executable Signature Format".
const (
	oidIndirectData = "1.3.6.1.4.1.311.2.1.4"
	oidImageData    = "1.3.6.1.4.1.311.2.1.15"
	oidSHA256       = "2.16.840.1.101.3.4.2.1"
)

// indirectData returns what the PKCS #7 message of a signature holds instead of the program: its hash. It is the content of
// an SpcIndirectDataContent, without the tag and length around it.
func indirectData(hash [sha256.Size]byte) ([]byte, error) {
	nested := func(tag int, compound bool, content []byte) ([]byte, error) {
		return asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: compound, Bytes: content})
	}
	// The name of the file, which the specification gives as this word.
	var word []byte
	for _, unit := range utf16.Encode([]rune("<<<Obsolete>>>")) {
		word = append(word, byte(unit>>8), byte(unit))
	}
	link := word
	for _, level := range []struct {
		tag      int
		compound bool
	}{{0, false}, {2, true}, {0, true}} { // the text, as a file's name, as the link
		var err error
		if link, err = nested(level.tag, level.compound, link); err != nil {
			return nil, err
		}
	}
	type imageData struct {
		Flags asn1.BitString
		File  asn1.RawValue
	}
	data, err := asn1.Marshal(struct {
		Type  asn1.ObjectIdentifier
		Value imageData
	}{identifier(oidImageData), imageData{File: asn1.RawValue{FullBytes: link}}})
	if err != nil {
		return nil, err
	}
	type algorithm struct {
		Algorithm  asn1.ObjectIdentifier
		Parameters asn1.RawValue
	}
	digest, err := asn1.Marshal(struct {
		Algorithm algorithm
		Digest    []byte
	}{algorithm{identifier(oidSHA256), asn1.NullRawValue}, hash[:]})
	if err != nil {
		return nil, err
	}
	return append(data, digest...), nil
}

// identifier reads the usual form of one of the identifiers above.
func identifier(text string) asn1.ObjectIdentifier {
	id, part := asn1.ObjectIdentifier{}, 0
	for _, c := range []byte(text + ".") {
		if c == '.' {
			id, part = append(id, part), 0
			continue
		}
		part = 10*part + int(c-'0')
	}
	return id
}
