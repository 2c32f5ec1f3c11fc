package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// A dhcp is the client of one link. Each exchange has a socket of its own: one that has seen its link go down stays deaf.
type dhcp struct {
	link string
	mac  net.HardwareAddr
}

// Times of one exchange: the first wait for an answer, which doubles each time that the message is sent again.
const (
	firstWait = time.Second
	sendings  = 5
)

// obtain takes the first offer that can be used. A server whose offer cannot is passed over, for another may be on the link.
func (d dhcp) obtain(ctx context.Context, last netip.Addr) (lease, error) {
	c, err := nclient4.New(d.link, nclient4.WithHWAddr(d.mac), nclient4.WithTimeout(firstWait), nclient4.WithRetry(sendings))
	if err != nil {
		return lease{}, err
	}
	defer c.Close()
	common := d.options()
	options := common
	if last.IsValid() {
		options = append(options, dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(last.AsSlice())))
	}
	discover, err := dhcpv4.NewDiscovery(d.mac, options...)
	if err != nil {
		return lease{}, err
	}
	var reject error
	offer, err := c.SendAndRead(ctx, nclient4.DefaultServers, discover, func(m *dhcpv4.DHCPv4) bool {
		if m.MessageType() != dhcpv4.MessageTypeOffer {
			return false
		}
		_, reject = readLease(m)
		return reject == nil
	})
	if err != nil {
		return lease{}, because(reject, err)
	}
	request, err := dhcpv4.NewRequestFromOffer(offer, common...)
	if err != nil {
		return lease{}, err
	}
	return exchange(ctx, c, nclient4.DefaultServers, request, nclient4.IsCorrectServer(offer.ServerIdentifier()))
}

// prolong sends to the server alone, from the address of the lease, or to all.
func (d dhcp) prolong(ctx context.Context, l lease, anyone bool) (lease, error) {
	to, options := nclient4.DefaultServers, []nclient4.ClientOpt{
		nclient4.WithHWAddr(d.mac), nclient4.WithTimeout(firstWait), nclient4.WithRetry(sendings),
	}
	from := nclient4.IsCorrectServer(l.server.AsSlice())
	if anyone {
		from = func(*dhcpv4.DHCPv4) bool { return true }
	} else {
		to = &net.UDPAddr{IP: l.server.AsSlice(), Port: nclient4.ServerPort}
		options = append(options, nclient4.WithUnicast(&net.UDPAddr{IP: l.prefix.Addr().AsSlice(), Port: nclient4.ClientPort}))
	}
	c, err := nclient4.New(d.link, options...)
	if err != nil {
		return lease{}, err
	}
	defer c.Close()
	id, err := dhcpv4.GenerateTransactionID() // with that of the lease an old answer could be taken for this one's
	if err != nil {
		return lease{}, err
	}
	request, err := dhcpv4.NewRenewFromAck(l.ack, append(d.options(), dhcpv4.WithTransactionID(id))...)
	if err != nil {
		return lease{}, err
	}
	return exchange(ctx, c, to, request, from)
}

// exchange sends a request until it is granted or refused.
func exchange(ctx context.Context, c *nclient4.Client, to *net.UDPAddr, request *dhcpv4.DHCPv4, from nclient4.Matcher) (lease, error) {
	var granted lease
	var reject error
	answer, err := c.SendAndRead(ctx, to, request, func(m *dhcpv4.DHCPv4) bool {
		switch {
		case !from(m):
			return false
		case m.MessageType() == dhcpv4.MessageTypeNak:
			return true
		case m.MessageType() != dhcpv4.MessageTypeAck:
			return false
		}
		granted, reject = readLease(m)
		return reject == nil
	})
	if err != nil {
		return lease{}, because(reject, err)
	}
	if answer.MessageType() == dhcpv4.MessageTypeNak {
		return lease{}, errRefused
	}
	return granted, nil
}

// because returns why no answer was good, if there were any.
func because(reject, err error) error {
	if reject != nil {
		return fmt.Errorf("an answer cannot be used: %w", reject)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nclient4.ErrNoResponse) {
		return errors.New("no server answers")
	}
	return err
}

// options returns what every message has: what is asked for, and who asks, by hardware address and by name.
func (d dhcp) options() []dhcpv4.Modifier {
	all := []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(nclient4.MaxMessageSize)),
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier(append([]byte{1}, d.mac...))), // 1: Ethernet
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
			dhcpv4.OptionHostName, dhcpv4.OptionDomainName, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionNTPServers,
			dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue, dhcpv4.OptionDNSDomainSearchList,
			dhcpv4.OptionClasslessStaticRoute),
	}
	if name, err := os.Hostname(); err == nil && !unnamed(name) {
		all = append(all, dhcpv4.WithOption(dhcpv4.OptHostName(name)))
	}
	return all[:len(all):len(all)]
}

// unnamed reports whether a host has no name of its own: that of the kernel, or the one that package base gives.
func unnamed(name string) bool { return name == "" || name == "(none)" || name == "localhost" }
