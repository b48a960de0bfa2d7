// Package boot tests Elver as its users meet it: programs are built, booted in
// QEMU by scripts/qemu-guest or by a plain command line, and judged by what
// comes out of the virtual machine. It holds nothing but tests.
//
// The programs in ../programs check themselves, and are run on the host's Linux
// first: a test that Linux fails says nothing about Elver.
//
// Environment: ELVER_KERNEL is the image to test (build/elver.kernel),
// ELVER_VMS how many VMs run at a time (2), ELVER_SOAK=1 adds the long tests,
// ELVER_KVM=1 uses KVM where the script finds that it works.
package boot
