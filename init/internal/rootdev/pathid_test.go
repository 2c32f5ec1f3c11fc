package rootdev

import (
	"io/fs"
	"testing"
	"testing/fstest"
)

// TestNamesByPath has the places that the machines above do not have.
func TestNamesByPath(t *testing.T) {
	t.Parallel()
	const host = "devices/pci0000:00/0000:00:01.0/0000:03:00.0/"
	hba := pci + "devices/pci0000:00/0000:00:01.0 pci -\ndevices/pci0000:00/0000:00:01.0/0000:03:00.0 pci -\n"
	scsiDisk := func(above, name string) string {
		return above + "/" + name + " scsi scsi_device vendor=ACME____ model=DISK____________ type=0\n" + above + "/" + name + "/block/sdz block disk\n"
	}
	const (
		sas    = host + "host0/port-0:0/end_device-0:0/target0:0:5"
		wide   = host + "host0/port-0:0/expander-0:0/port-0:0:1/end_device-0:0:1/target0:0:5"
		fc     = host + "host1/rport-1:0-2/target1:0:2"
		second = host + "host5/target5:2:0"
		vmbus  = "devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00/f8b3781a-1e82-4818-a1c3-63d806ec15bb/host0/target0:0:0"
		multi  = "devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1"
	)
	nvmeUp := "class/nvme/nvme0"
	for _, tt := range []struct {
		name, disk, sys, want string
	}{
		{"sas", sas + "/0:0:5:0/block/sdz", hba + host + "host0 scsi scsi_host\n" + host + "host0/port-0:0 - -\n" + host + "host0/port-0:0/end_device-0:0 - -\n" +
			sas + " scsi scsi_target\n" + scsiDisk(sas, "0:0:5:0") +
			"class/sas_device/end_device-0:0 - - phy_identifier=3 sas_address=0x5000\nclass/sas_port/port-0:0 - - num_phys=1\n",
			"pci-0000:03:00.0-sas-phy3-lun-0"},
		{"sas behind an expander", wide + "/0:0:5:0/block/sdz", hba + host + "host0 scsi scsi_host\n" + host + "host0/port-0:0 - -\n" +
			host + "host0/port-0:0/expander-0:0 - -\n" + host + "host0/port-0:0/expander-0:0/port-0:0:1 - -\n" +
			host + "host0/port-0:0/expander-0:0/port-0:0:1/end_device-0:0:1 - -\n" + wide + " scsi scsi_target\n" + scsiDisk(wide, "0:0:5:0") +
			"class/sas_device/end_device-0:0:1 - - phy_identifier=4\nclass/sas_device/expander-0:0 - - sas_address=0x5001\nclass/sas_port/port-0:0:1 - - num_phys=1\n",
			"pci-0000:03:00.0-sas-exp0x5001-phy4-lun-0"},
		{"sas with a wide port", sas + "/0:0:5:0/block/sdz", hba + host + "host0 scsi scsi_host\n" + host + "host0/port-0:0 - -\n" + host + "host0/port-0:0/end_device-0:0 - -\n" +
			sas + " scsi scsi_target\n" + scsiDisk(sas, "0:0:5:0") +
			"class/sas_device/end_device-0:0 - - phy_identifier=3 sas_address=0x5000\nclass/sas_port/port-0:0 - - num_phys=4\n",
			"pci-0000:03:00.0-sas-0x5000-lun-0"},
		{"fibre channel", fc + "/1:0:2:513/block/sdz", hba + host + "host1 scsi scsi_host\n" + host + "host1/rport-1:0-2 - -\n" + fc + " scsi scsi_target\n" + scsiDisk(fc, "1:0:2:513") +
			"class/fc_transport/target1:0:2 - - port_name=0x2100\n", "pci-0000:03:00.0-fc-0x2100-lun-0x0201000000000000"},
		{"hosts are counted", second + "/5:2:0:1/block/sdz", hba + host + "host3 scsi scsi_host\n" + host + "host5 scsi scsi_host\n" + second + " scsi scsi_target\n" + scsiDisk(second, "5:2:0:1"),
			"pci-0000:03:00.0-scsi-2:2:0:1"},
		{"hyper-v", vmbus + "/0:0:0:0/block/sdz", "devices/LNXSYSTM:00 acpi -\ndevices/LNXSYSTM:00/LNXSYBUS:00 acpi -\ndevices/LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00 acpi -\n" +
			"devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00 acpi -\n" +
			"devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00/f8b3781a-1e82-4818-a1c3-63d806ec15bb vmbus - device_id={f8b3781a-1e82-4818-a1c3-63d806ec15bb}\n" +
			"devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00/f8b3781a-1e82-4818-a1c3-63d806ec15bb/host0 scsi scsi_host\n" + vmbus + " scsi scsi_target\n" + scsiDisk(vmbus, "0:0:0:0"),
			"acpi-VMBUS:00-vmbus-f8b3781a1e824818a1c363d806ec15bb-lun-0"},
		{"nvme with several controllers", multi, "devices/virtual/nvme-subsystem/nvme-subsys0 nvme-subsystem -\n" + multi + " block disk nsid=3\n" + hba + host + "nvme/nvme0 nvme -\n",
			"pci-0000:03:00.0-nvme-3"},
		{"iscsi", host + "host9/session1/target9:0:0/9:0:0:0/block/sdz", hba + host + "host9 scsi scsi_host\n" + host + "host9/session1 - -\n" + scsiDisk(host+"host9/session1/target9:0:0", "9:0:0:0"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sys := sysfs(tt.sys)
			sys[nvmeUp] = &fstest.MapFile{Data: []byte("../../" + host + "nvme/nvme0"), Mode: fs.ModeSymlink}
			where, _ := pathOf(node{sys, tt.disk})
			if where != tt.want {
				t.Errorf("path %q, want %q", where, tt.want)
			}
		})
	}
}
