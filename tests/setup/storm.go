package main

// stormTools lists what make storm needs beyond the tools of make test: what a kernel is built with.
func stormTools() []tool {
	return []tool{
		{"flex", "flex", false},
		{"bison", "bison", false},
		{"bc", "bc", false},
		{"/usr/include/libelf.h", "libelf-dev", false},      // objtool
		{"/usr/include/openssl/ssl.h", "libssl-dev", false}, // the program that packs the certificates, of which there are none
	}
}

// purposes returns the tools by what they are for.
func purposes() map[string][]tool {
	return map[string][]tool{"run": tools(), "test": tools(), "storm": append(tools(), stormTools()...)}
}
