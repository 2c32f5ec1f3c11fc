package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"hapax/init/internal/klog"
)

// maxIP bounds the value of ip=; the whole command line has 4096 bytes at most.
const maxIP = 512

// ParseIP reads the value of ip=, in the kernel's form
//
//	CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1:NTP0
//
// of which any number of fields may be left away at the end, in the kernel's short form AUTOCONF, and in those that dracut has
// besides: DEVICE:AUTOCONF[:MTU[:MAC]], and the first one with MTU and MAC in the place of the name servers. An IPv6 address stands
// in brackets. SERVER, which is for a root on NFS, is checked and not used.
func ParseIP(value string) (Interface, error) {
	if len(value) > maxIP {
		return Interface{}, fmt.Errorf("more than %d bytes", maxIP)
	}
	fields, err := splitIP(value)
	if err != nil {
		return Interface{}, err
	}
	if len(fields) == 1 {
		if method, err := parseMethod(fields[0]); err == nil {
			return Interface{Method: method}, nil
		}
	}
	if _, err := parseAddr(fields[0]); fields[0] != "" && err != nil {
		return parseDeviceForm(fields)
	}
	return parseKernelForm(fields)
}

// splitIP splits at the colons that are not in brackets, and removes the brackets.
func splitIP(value string) ([]string, error) {
	var fields []string
	for {
		var field string
		if inside, bracketed := strings.CutPrefix(value, "["); bracketed {
			var closed bool
			if field, value, closed = strings.Cut(inside, "]"); !closed {
				return nil, errors.New("a bracket is not closed")
			}
			if value == "" {
				return append(fields, field), nil
			}
			if value[0] != ':' {
				return nil, errors.New("something stands between a bracket and the colon")
			}
			fields, value = append(fields, field), value[1:]
			continue
		}
		var more bool
		if field, value, more = strings.Cut(value, ":"); !more {
			return append(fields, field), nil
		}
		fields = append(fields, field)
	}
}

// parseMethod reads AUTOCONF.
func parseMethod(word string) (Method, error) {
	switch word {
	case "off", "none":
		return Off, nil
	case "dhcp", "on", "any", "both", "bootp": // a DHCP server answers where a BOOTP server once did
		return DHCP, nil
	case "auto6", "link6", "link-local", "either6":
		return Link, nil
	case "rarp", "dhcp6", "ibft":
		return Off, fmt.Errorf("%s is not supported", word)
	}
	return Off, fmt.Errorf("%q: want dhcp, on, any, off, none or auto6", klog.Printable(word))
}

// parseDeviceForm reads DEVICE:AUTOCONF[:MTU[:MAC]].
func parseDeviceForm(fields []string) (Interface, error) {
	if len(fields) < 2 {
		return Interface{}, fmt.Errorf("%q is neither an address nor a way to get one", klog.Printable(fields[0]))
	}
	i := Interface{}
	var err error
	if i.Name, err = deviceName(fields[0]); err != nil {
		return Interface{}, err
	}
	if i.Method, err = parseMethod(fields[1]); err != nil {
		return Interface{}, err
	}
	return i, i.linkFields(fields[2:])
}

// linkFields reads [MTU[:MAC]]. The colons of the MAC address have made fields of their own.
func (i *Interface) linkFields(fields []string) error {
	if len(fields) == 0 {
		return nil
	}
	var err error
	if fields[0] != "" {
		if i.MTU, err = parseMTU(fields[0]); err != nil {
			return fmt.Errorf("mtu: %w", err)
		}
	}
	if text := strings.Join(fields[1:], ":"); text != "" {
		if i.MAC, err = net.ParseMAC(text); err != nil || len(i.MAC) != 6 {
			return fmt.Errorf("%q is no MAC address", klog.Printable(text))
		}
	}
	return nil
}

// parseKernelForm reads the form with the addresses.
func parseKernelForm(fields []string) (Interface, error) {
	field := func(n int) string {
		if n < len(fields) {
			return fields[n]
		}
		return ""
	}
	i := Interface{Method: DHCP}
	var err error
	if _, err = appendAddr(nil, field(1)); err != nil {
		return Interface{}, fmt.Errorf("server: %w", err)
	}
	if i.Gateways, err = appendAddr(nil, field(2)); err != nil {
		return Interface{}, fmt.Errorf("gateway: %w", err)
	}
	if i.Hostname = field(4); i.Hostname != "" && !validDomain(i.Hostname) {
		return Interface{}, fmt.Errorf("%q is no host name", klog.Printable(i.Hostname))
	}
	if field(5) != "" {
		if i.Name, err = deviceName(field(5)); err != nil {
			return Interface{}, err
		}
	}
	if field(6) != "" {
		if i.Method, err = parseMethod(field(6)); err != nil {
			return Interface{}, err
		}
	}
	if field(0) != "" {
		// An address that is given is used, whatever else is to be found out.
		prefix, err := clientPrefix(field(0), field(3))
		if err != nil {
			return Interface{}, err
		}
		i.Method, i.Addresses = Static, []netip.Prefix{prefix}
	}
	return i, i.tail(fields[min(7, len(fields)):])
}

// tail reads DNS0:DNS1:NTP0 or [MTU[:MAC]], which a number alone begins.
func (i *Interface) tail(fields []string) error {
	if len(fields) == 0 {
		return nil
	}
	if _, err := strconv.Atoi(fields[0]); err == nil || len(fields) > 3 {
		return i.linkFields(fields)
	}
	var err error
	for n, field := range fields {
		list := &i.DNS
		if n == 2 {
			list = &i.NTP
		}
		if *list, err = appendAddr(*list, field); err != nil {
			return fmt.Errorf("name or time server: %w", err)
		}
	}
	return nil
}

// clientPrefix returns the address with the network that the mask says, or without one the class that it was from in the days
// when the kernel's rule was made.
func clientPrefix(client, mask string) (netip.Prefix, error) {
	a, err := parseAddr(client)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("client: %w", err)
	}
	bits := 64
	switch first := a.AsSlice()[0]; {
	case a.Is6():
	case first < 128:
		bits = 8
	case first < 192:
		bits = 16
	default:
		bits = 24
	}
	if mask != "" {
		if bits, err = maskBits(mask); err != nil {
			return netip.Prefix{}, err
		}
	}
	p := netip.PrefixFrom(a, bits)
	if !p.IsValid() || a.IsUnspecified() || a.IsMulticast() {
		return netip.Prefix{}, fmt.Errorf("%s/%s is no address of a host", a, klog.Printable(mask))
	}
	return p, nil
}

// maskBits reads 255.255.255.0 or 24.
func maskBits(mask string) (int, error) {
	if n, err := strconv.Atoi(mask); err == nil {
		return n, nil // PrefixFrom has the last word
	}
	a, err := parseAddr(mask)
	if err != nil || !a.Is4() {
		return 0, fmt.Errorf("netmask %q: want a mask such as 255.255.255.0", klog.Printable(mask))
	}
	ones, bits := net.IPMask(a.AsSlice()).Size()
	if bits == 0 {
		return 0, fmt.Errorf("netmask %s: ones and zeros are mixed", mask)
	}
	return ones, nil
}

// deviceName checks the name of a network device, or a MAC address in dracut's spelling with dashes.
func deviceName(name string) (string, error) {
	if mac, err := net.ParseMAC(name); err == nil && len(mac) == 6 && name[2] == '-' {
		return mac.String(), nil
	}
	if _, err := path.Match(name, ""); err != nil || len(name) > 15 || strings.ContainsAny(name, "/ \t\n") || klog.Printable(name) != name {
		return "", fmt.Errorf("%q is no name of a network device", klog.Printable(name))
	}
	return name, nil
}
