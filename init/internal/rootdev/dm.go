package rootdev

import "strings"

// mapped returns the links of a device of the device mapper, which are those of lvm2 2.03.16 by its
// 55-dm.rules and 60-persistent-storage-dm.rules.
//
// udev learns from the program that makes a device which links it must not have. Without a udevd that
// program says nothing, but it marks the devices that are its own affair in their UUIDs, too.
func mapped(dev node, s Seen) []string {
	if s.Size == 0 {
		return nil // it has no table yet
	}
	n := &names{}
	name, uuid := replaceSpace(dev.attr("dm/name"), 511), replaceSpace(dev.attr("dm/uuid"), 511)
	n.below("mapper/", name)
	if name == "" || internal(uuid) {
		return n.links
	}
	n.add("by-id", "dm-name-"+name)
	if uuid != "" {
		n.add("by-id", "dm-uuid-"+uuid)
	}
	if dev.attr("dm/suspended") == "1" {
		return n.links // who reads it now waits
	}
	if s.Usage == Filesystem || s.Usage == Other || s.Usage == Crypto {
		n.add("by-uuid", encodeLink(s.UUID))
	}
	if s.Usage == Filesystem || s.Usage == Other {
		n.add("by-label", encodeLink(s.Label))
	}
	return n.links
}

// internal tells of the UUID of a mapped device whether it is part of another one: a layer of a logical
// volume (lib/activate/dev_manager.c of LVM), or what cryptsetup and stratisd keep for themselves.
func internal(uuid string) bool {
	if ids, ok := strings.CutPrefix(uuid, "LVM-"); ok {
		const group, volume = 32, 32
		return len(ids) > group+volume
	}
	for prefix := range strings.FieldsSeq("CRYPT-TEMP- CRYPT-SUBDEV- stratis-1-private-") {
		if strings.HasPrefix(uuid, prefix) {
			return true
		}
	}
	return false
}
