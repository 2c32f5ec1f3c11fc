package image

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"hapax/image/archive"
)

// A Network says how the network of an image that stays is set up: the table [network] of hapax.toml. The words ip= of the kernel
// command line take its place. The form in which it is written into the image is that of init/internal/network.
type Network struct {
	Interface string       `toml:"interface"` // name, pattern or MAC address; default every Ethernet device
	DHCP      bool         `toml:"dhcp"`
	Addresses []netPrefix  `toml:"addresses"`
	Gateway   netAddr      `toml:"gateway"`
	DNS       []netAddr    `toml:"dns"`
	Search    []domainName `toml:"search"`
	MTU       int          `toml:"mtu"`
}

// Words of hapax.toml, as those of a Service.
type (
	netPrefix  string // an address with the length of its network
	netAddr    string
	domainName string
)

func (p *netPrefix) UnmarshalText(text []byte) error {
	*p = netPrefix(text)
	if _, err := netip.ParsePrefix(string(text)); err != nil {
		return fmt.Errorf(`%q: write an address with the length of its network, such as "192.0.2.7/24"`, text)
	}
	return nil
}

func (a *netAddr) UnmarshalText(text []byte) error {
	*a = netAddr(text)
	if p, err := netip.ParseAddr(string(text)); err != nil || p.Zone() != "" {
		return fmt.Errorf("%q is no address", text)
	}
	return nil
}

func (d *domainName) UnmarshalText(text []byte) error {
	*d = domainName(text)
	if len(text) == 0 || len(text) > 253 || strings.ContainsFunc(string(text), func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.", r))
	}) {
		return fmt.Errorf("%q is no domain", text)
	}
	return nil
}

// empty reports whether there is no such table.
func (n Network) empty() bool {
	return n.Interface == "" && !n.DHCP && len(n.Addresses)+len(n.DNS)+len(n.Search) == 0 && n.Gateway == "" && n.MTU == 0
}

// check returns what does not fit together.
func (n Network) check() error {
	const most = 16 // of addresses and names together: what /init takes
	switch {
	case !n.DHCP && len(n.Addresses) == 0:
		return errors.New(`network: say dhcp = true, or which addresses it has`)
	case n.Gateway != "" && len(n.Addresses) == 0:
		return errors.New("network: a gateway needs addresses; a DHCP server gives its own")
	case len(n.Addresses)+len(n.DNS)+len(n.Search) >= most:
		return fmt.Errorf("network: more than %d addresses and names", most-2)
	case n.MTU != 0 && (n.MTU < 68 || n.MTU > 65536):
		return fmt.Errorf("network: mtu = %d: want 68 to 65536", n.MTU)
	case strings.ContainsFunc(n.Interface, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }) || len(n.Interface) > 17:
		return fmt.Errorf("network: interface = %q is no name, pattern or MAC address", n.Interface)
	}
	return nil
}

// addNetwork adds what the network service of the image reads.
func (b *builder) addNetwork() error {
	n := b.spec.Network
	if n.empty() {
		return nil
	}
	if err := n.check(); err != nil {
		return err
	}
	name := n.Interface
	if name == "" {
		name = "*"
	}
	lines := []string{"hapax-network 1", "interface " + name}
	if n.DHCP {
		lines = append(lines, "dhcp")
	}
	for _, p := range n.Addresses {
		lines = append(lines, "address "+string(p))
	}
	if n.Gateway != "" {
		lines = append(lines, "gateway "+string(n.Gateway))
	}
	for _, a := range n.DNS {
		lines = append(lines, "dns "+string(a))
	}
	for _, d := range n.Search {
		lines = append(lines, "search "+string(d))
	}
	if n.MTU != 0 {
		lines = append(lines, "mtu "+strconv.Itoa(n.MTU))
	}
	return b.add(archive.Bytes("etc/hapax/network", 0o644, []byte(strings.Join(slices.Concat(lines, []string{""}), "\n"))), "[network]")
}
