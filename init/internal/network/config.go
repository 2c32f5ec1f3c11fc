// Package network brings up the network of a system that stays: links, static addresses and DHCPv4 leases, which it renews.
//
// It is a role of the second binary of an image (init/extra). One goroutine, that of Run, owns all state and is the only one
// that changes the kernel's; each lease has one that speaks with its server and tells the first what came of it. Nothing polls:
// links are followed by netlink's events, leases by their own times.
//
// What servers say is not to be trusted further than a network has to be: numbers are bounded, names are checked before they
// reach a file, and a lease that cannot work is not taken, so that a second server on the link gets its turn.
//
// # The file
//
// The image builder writes [File] from the [network] table of hapax.toml, and [ParseFile] reads it: a first line [Header], then
// lines "KEY VALUE".
//
//	interface NAME    begins an interface: a name, a pattern as in path.Match, or a MAC address; "*" is every Ethernet device
//	dhcp              get an address by DHCPv4, beside those that are given
//	address PREFIX    a static address with the length of its network, such as 192.0.2.7/24
//	gateway ADDRESS   of the default route
//	dns ADDRESS       a name server
//	search DOMAIN     where short names are looked up
//	mtu N             of the link
//
// The words ip= and nameserver= of the kernel command line, by the kernel's Documentation/admin-guide/nfs/nfsroot.rst and by
// dracut.cmdline(7), take the place of all of it.
package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"hapax/init/internal/cmdline"
	"hapax/init/internal/klog"
)

// Name is the argv[0] of this role, and its service's name in the image is "network".
const Name = "hapax-net"

// File is where an image says how its network is set up. Header is its first line.
const (
	File   = "/etc/hapax/network"
	Header = "hapax-network 1"
)

// A Config says what the network is to be.
type Config struct {
	Interfaces []Interface
	DNS        []netip.Addr // beside those of the interfaces
	Search     []string
}

// An Interface says what becomes of the links that it names.
type Interface struct {
	Name      string // name, pattern or MAC address; "" is every Ethernet device
	Method    Method
	Addresses []netip.Prefix // of Static; beside a lease with DHCP
	Gateways  []netip.Addr   // of the default routes, one of IPv4 and one of IPv6
	DNS       []netip.Addr
	NTP       []netip.Addr
	Hostname  string           // "" for that of the DHCP server
	MTU       int              // 0 leaves it
	MAC       net.HardwareAddr // to set; nil leaves it
}

// A Method is how an interface comes to its addresses.
type Method int

// The methods.
const (
	Off    Method = iota // it is left alone
	Static               // they are in the Config
	DHCP                 // DHCPv4
	Link                 // the link is set up, and the kernel finds an IPv6 address by itself
)

// Limits of a Config, far beyond what one machine has.
const (
	maxFile       = 64 << 10
	maxInterfaces = 16
	maxAddresses  = 16
	maxMTU        = 65536
	minMTU        = 68
)

// FromCmdline returns what the words ip= and nameserver= say, and whether there is an ip= at all. The errors are one for each word
// that makes no sense, which then says nothing.
func FromCmdline(p *cmdline.Params) (config Config, given bool, errs []error) {
	for value := range p.All("ip") {
		given = true
		i, err := ParseIP(value)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("ip=%s: %w", klog.Printable(value), err))
		case len(config.Interfaces) == maxInterfaces:
			errs = append(errs, fmt.Errorf("ip=%s: more than %d of them", klog.Printable(value), maxInterfaces))
		default:
			config.Interfaces = append(config.Interfaces, i)
		}
	}
	for value := range p.All("nameserver") {
		a, err := parseAddr(strings.Trim(value, "[]"))
		if err != nil || len(config.DNS) == maxAddresses {
			errs = append(errs, fmt.Errorf("nameserver=%s: no address", klog.Printable(value)))
			continue
		}
		config.DNS = append(config.DNS, a)
	}
	return config, given, errs
}

// ParseFile reads the text of a File. The error names the line.
func ParseFile(text string) (Config, error) {
	if len(text) > maxFile {
		return Config{}, fmt.Errorf("more than %d bytes", maxFile)
	}
	head, rest, _ := strings.Cut(text, "\n")
	if head != Header {
		return Config{}, fmt.Errorf("line 1: want %q", Header)
	}
	var c Config
	n := 1
	for line := range strings.Lines(rest) {
		n++
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if err := c.line(key, value); err != nil {
			return Config{}, fmt.Errorf("line %d: %s: %w", n, klog.Printable(key), err)
		}
	}
	return c, nil
}

var (
	errFirst = errors.New("no interface stands before it")
	errMany  = errors.New("too many of them")
	errKey   = errors.New("unknown key")
)

// line adds what one line of a file says.
func (c *Config) line(key, value string) error {
	if key == "interface" {
		if len(c.Interfaces) == maxInterfaces {
			return errMany
		}
		if value == "*" {
			value = ""
		}
		if _, err := path.Match(value, ""); err != nil {
			return err
		}
		c.Interfaces = append(c.Interfaces, Interface{Name: value, Method: Link})
		return nil
	}
	if len(c.Interfaces) == 0 {
		return errFirst
	}
	i := &c.Interfaces[len(c.Interfaces)-1]
	if len(i.Addresses)+len(i.Gateways)+len(i.DNS)+len(c.Search) >= maxAddresses {
		return errMany
	}
	var err error
	switch key {
	case "dhcp":
		i.Method = DHCP
	case "address":
		var p netip.Prefix
		if p, err = netip.ParsePrefix(value); err == nil {
			i.Addresses = append(i.Addresses, p)
		}
		if i.Method == Link {
			i.Method = Static
		}
	case "gateway":
		i.Gateways, err = appendAddr(i.Gateways, value)
	case "dns":
		i.DNS, err = appendAddr(i.DNS, value)
	case "search":
		if !validDomain(value) {
			return fmt.Errorf("%q is no domain", klog.Printable(value))
		}
		c.Search = append(c.Search, value)
	case "mtu":
		i.MTU, err = parseMTU(value)
	default:
		err = errKey
	}
	return err
}

// appendAddr appends the address that text spells, if it is not empty.
func appendAddr(list []netip.Addr, text string) ([]netip.Addr, error) {
	if text == "" {
		return list, nil
	}
	a, err := parseAddr(text)
	if err != nil {
		return list, err
	}
	return append(list, a), nil
}

// parseAddr is netip.ParseAddr for addresses without a zone, which no name server or gateway here needs.
func parseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err == nil && a.Zone() != "" {
		return netip.Addr{}, errors.New("an address with a zone")
	}
	return a.Unmap(), err
}

func parseMTU(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < minMTU || n > maxMTU {
		return 0, fmt.Errorf("%q: want a number from %d to %d", klog.Printable(text), minMTU, maxMTU)
	}
	return n, nil
}

// validDomain reports whether name may stand in resolv.conf: letters, digits, '-', '_' and dots between them, as in a host name,
// up to the 253 characters of the DNS.
func validDomain(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}
