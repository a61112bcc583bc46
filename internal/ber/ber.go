// Package ber makes DER of BER (X.690), for what Go's encoding/asn1 shall read: NSS, Bouncy Castle and others write
// lengths that are not known beforehand, and strings in pieces.
//
//	der, err := ber.DER(data)
package ber

import (
	"errors"
	"fmt"
)

// errDamaged is text that is not BER, or that is cut short.
var errDamaged = errors.New("ber: the encoding is damaged")

const maxDepth = 32

// Tags of the universal class, as identifier octets.
const (
	octetString      = 0x04
	constructed      = 0x20
	end              = 0x00
	indefinite       = 0x80
	highTag          = 0x1f
	constructedOctet = octetString | constructed
)

// DER returns one value with definite lengths in the shortest form and octet strings in one piece. What follows the
// value is an error. Order in sets and the form of other values are left as they are.
func DER(data []byte) ([]byte, error) {
	value, rest, err := convert(data, 0)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("ber: %d bytes follow the value", len(rest))
	}
	return value, err
}

func convert(data []byte, depth int) (der, rest []byte, err error) {
	// Each level takes two bytes of the input, and would take a frame of the stack.
	if depth > maxDepth {
		return nil, nil, errDamaged
	}

	identifier, length, content, err := header(data)
	if err != nil {
		return nil, nil, err
	}

	if identifier[0]&constructed == 0 {
		if length < 0 {
			return nil, nil, errDamaged
		}
		return encode(identifier, content[:length]), content[length:], nil
	}

	inside := content
	if length >= 0 {
		inside, rest = content[:length], content[length:]
	}

	var parts [][]byte
	for {
		if length >= 0 && len(inside) == 0 {
			break
		}

		if length < 0 && len(inside) >= 2 && inside[0] == end && inside[1] == 0 {
			rest = inside[2:]
			break
		}

		var part []byte
		if part, inside, err = convert(inside, depth+1); err != nil {
			return nil, nil, err
		}
		parts = append(parts, part)
	}

	// DER has no strings in pieces (X.690 section 10.2).
	if identifier[0] == constructedOctet {
		der, err = Join(parts)
		return der, rest, err
	}

	var all []byte
	for _, part := range parts {
		all = append(all, part...)
	}

	return encode(identifier, all), rest, nil
}

// Join makes one octet string of several in DER.
func Join(parts [][]byte) ([]byte, error) {
	var all []byte
	for _, part := range parts {
		identifier, length, content, err := header(part)
		if err != nil || identifier[0] != octetString || length != len(content) {
			return nil, errDamaged
		}
		all = append(all, content...)
	}
	return encode([]byte{octetString}, all), nil
}

// header reads the identifier and the length, -1 where that is indefinite. At least length bytes of content are there.
func header(data []byte) (identifier []byte, length int, content []byte, err error) {
	if len(data) < 2 {
		return nil, 0, nil, errDamaged
	}

	n := 1
	if data[0]&highTag == highTag {
		for n < len(data) && data[n]&0x80 != 0 {
			n++
		}
		n++
	}

	if n >= len(data) || n > 6 {
		return nil, 0, nil, errDamaged
	}

	identifier, first := data[:n], data[n]
	content = data[n+1:]
	switch {
	case first == indefinite:
		return identifier, -1, content, nil
	case first < 0x80:
		length = int(first)
	default:
		octets := int(first & 0x7f)
		if octets > 8 || octets > len(content) {
			return nil, 0, nil, errDamaged
		}

		for _, b := range content[:octets] {
			// Before the shift, as a length of eight bytes overflows an int, and may come out small.
			if length >= 1<<24 {
				return nil, 0, nil, errDamaged
			}
			length = length<<8 | int(b)
		}

		content = content[octets:]
	}

	if length > len(content) {
		return nil, 0, nil, errDamaged
	}

	return identifier, length, content, nil
}

func encode(identifier, content []byte) []byte {
	out := append([]byte{}, identifier...)
	n := len(content)
	if n < 0x80 {
		out = append(out, byte(n))
		return append(out, content...)
	}
	var octets []byte
	for ; n > 0; n >>= 8 {
		octets = append([]byte{byte(n)}, octets...)
	}
	out = append(append(out, 0x80|byte(len(octets))), octets...)
	return append(out, content...)
}
