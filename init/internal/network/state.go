package network

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Where the network's state goes.
const (
	resolvFile = "/etc/resolv.conf"
	stateDir   = "/run/hapax/network" // a file for each link
)

// resolvConf returns the content of /etc/resolv.conf for what is known of name servers, the static ones first, or "" if that is
// nothing. A C library heeds the first three servers and six domains, so more would only mislead.
func resolvConf(c Config, links []*link) string {
	servers, search := slices.Clone(c.DNS), slices.Clone(c.Search)
	for _, l := range links {
		servers = append(servers, l.config.DNS...)
		if l.lease != nil {
			servers = append(servers, l.lease.dns...)
			search = append(search, l.lease.search...)
		}
	}
	servers, search = unique(servers, maxDNS), unique(search, maxSearch)
	if len(servers) == 0 && len(search) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("# Written by hapax.\n")
	if len(search) > 0 {
		b.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	for _, a := range servers {
		b.WriteString("nameserver " + a.String() + "\n")
	}
	return b.String()
}

// unique returns the first n values of list that differ.
func unique[T comparable](list []T, n int) []T {
	var all []T
	for _, v := range list {
		if len(all) < n && !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	return all
}

// stateText returns what is told of a link to whoever looks: lines KEY=VALUE, lists separated by spaces.
func stateText(l *link) string {
	var b strings.Builder
	line := func(key string, values ...string) {
		if len(values) > 0 && values[0] != "" {
			fmt.Fprintf(&b, "%s=%s\n", key, strings.Join(values, " "))
		}
	}
	line("address", spell(l.config.Addresses)...)
	line("gateway", spell(l.config.Gateways)...)
	line("dns", spell(l.config.DNS)...)
	line("ntp", spell(l.config.NTP)...)
	if lease := l.lease; lease != nil {
		line("address", lease.prefix.String())
		for _, r := range lease.routes {
			if r.dest.Bits() == 0 && r.gateway.IsValid() {
				line("gateway", r.gateway.String())
			}
		}
		line("dns", spell(lease.dns)...)
		line("ntp", spell(lease.ntp)...)
		line("search", lease.search...)
		line("hostname", lease.host)
		line("server", lease.server.String())
		if lease.expire != forever {
			line("lease", fmt.Sprint(int64(lease.expire.Seconds())))
		}
	}
	return b.String()
}

func spell[T fmt.Stringer](list []T) []string {
	all := make([]string, len(list))
	for i, v := range list {
		all[i] = v.String()
	}
	return all
}

// writeAtomic makes a file with the content given, or leaves the one that was there: nobody reads half of it.
func writeAtomic(file, text string) error {
	if old, err := os.ReadFile(file); err == nil && string(old) == text {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	tmp := file + ".hapax-new"
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, file)
}

// nameOf returns the host name that the network gives: that of ip= first, then that of a server.
func nameOf(links []*link) string {
	for _, l := range links {
		if l.config.Hostname != "" {
			return l.config.Hostname
		}
	}
	for _, l := range links {
		if l.lease != nil && l.lease.host != "" {
			return l.lease.host
		}
	}
	return ""
}
