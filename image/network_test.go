package image_test

import (
	"strings"
	"testing"
)

// What init/internal/network/ip_test.go holds the reader to.
func TestNetwork(t *testing.T) {
	t.Parallel()
	files, err := standalone(t, `standalone = true
[network]
interface = "en*"
dhcp = true
addresses = ["192.0.2.7/24", "2001:db8::7/64"]
gateway = "192.0.2.1"
dns = ["192.0.2.53"]
search = ["lab.example"]
mtu = 1400
`, nil)
	const want = "hapax-network 1\ninterface en*\ndhcp\naddress 192.0.2.7/24\naddress 2001:db8::7/64\ngateway 192.0.2.1\ndns 192.0.2.53\n" +
		"search lab.example\nmtu 1400\n"
	if got := files["etc/hapax/network"]; err != nil || got != want {
		t.Errorf("error %v, file:\n%s", err, got)
	}
	files, err = standalone(t, "standalone = true\n[network]\ndhcp = true\n", nil)
	if got := files["etc/hapax/network"]; err != nil || got != "hapax-network 1\ninterface *\ndhcp\n" {
		t.Errorf("error %v, file:\n%s", err, got)
	}
	if files, err = standalone(t, "standalone = true\n", nil); err != nil || files["etc/hapax/network"] != "" {
		t.Errorf("error %v, a network that nobody asked for: %q", err, files["etc/hapax/network"])
	}
}

func TestNetworkMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[network]\ndhcp = true\n":                                                                         "give --standalone",
		"standalone = true\n[network]\nmtu = 1400\n":                                                       "dhcp = true",
		"standalone = true\n[network]\ndhpc = true\n":                                                      "unknown key network.dhpc",
		"standalone = true\n[network]\ndhcp = \"yes\"\n":                                                   ":3:",
		"standalone = true\n[network]\naddresses = [\"192.0.2.7\"]\n":                                      ":3:14: network.addresses",
		"standalone = true\n[network]\ndhcp = true\ndns = [\"one\"]\n":                                     `"one" is no address`,
		"standalone = true\n[network]\ndhcp = true\nsearch = [\"a b\"]\n":                                  `"a b" is no domain`,
		"standalone = true\n[network]\ndhcp = true\ngateway = \"10.0.0.1\"\n":                              "a gateway needs addresses",
		"standalone = true\n[network]\ndhcp = true\nmtu = 1\n":                                             "mtu = 1",
		"standalone = true\n[network]\ndhcp = true\ninterface = \"a/b\"\n":                                 "no name",
		"standalone = true\n[network]\ndhcp = true\ndns = [" + strings.Repeat("\"1.1.1.1\", ", 20) + "]\n": "more than",
	} {
		if _, err := standalone(t, text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}
