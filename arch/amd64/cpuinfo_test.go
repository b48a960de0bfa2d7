package amd64

import (
	"strings"
	"testing"
)

func TestCPUInfo(t *testing.T) {
	leaves := map[[2]uint32][4]uint32{
		{0, 0}:          {13, 0x68747541, 0x444d4163, 0x69746e65}, // AuthenticAMD
		{1, 0}:          {0x00a10f11, 8 << 8, 1<<0 | 1<<31, 1<<0 | 1<<25 | 1<<26},
		{7, 0}:          {0, 1 << 5, 1 << 2, 1 << 4},
		{13, 1}:         {1, 0, 0, 0},
		{0x80000000, 0}: {0x80000008},
		{0x80000001, 0}: {0, 0, 1, 1<<11 | 1<<20 | 1<<29},
		{0x80000002, 0}: {0x20444d41, 0x43595045, 0, 0}, // "AMD EPYC"
		{0x80000006, 0}: {0, 0, 1024 << 16, 0},
		{0x80000008, 0}: {0x3030},
	}
	got := CPUInfo(func(leaf, sub uint32) (a, b, c, d uint32) {
		v := leaves[[2]uint32{leaf, sub}]
		return v[0], v[1], v[2], v[3]
	}, 2596140000)
	for _, want := range []string{
		"processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nstepping\t: 1\n",
		"cpu MHz\t\t: 2596.140\ncache size\t: 1024 KB\n",
		"flags\t\t: fpu sse sse2 syscall nx lm pni hypervisor lahf_lm avx2 xsaveopt umip fsrm\n",
		"bogomips\t: 5192.28\nclflush size\t: 64\n", "address sizes\t: 48 bits physical, 48 bits virtual\npower management:\n\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("wanted %q in\n%s", want, got)
		}
	}
}
