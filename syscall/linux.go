package syscall

// What Linux's headers define and unix does not.
const (
	archSetGS    = 0x1001
	archSetFS    = 0x1002
	archGetFS    = 0x1003
	archGetGS    = 0x1004
	archGetCPUID = 0x1011
	archSetCPUID = 0x1012

	futexPrivate       = 128
	futexClockRealtime = 256

	fioNBIO  = 0x5421
	fioNCLEX = 0x5450
	fioCLEX  = 0x5451
	fioASYNC = 0x5452

	fioSETOWN, siocSPGRP = 0x8901, 0x8902
	fioGETOWN, siocGPGRP = 0x8903, 0x8904

	largeFile = 0o100000 // O_LARGEFILE, which the C library hides on x86-64

	saNoCldStop = 1
	saNoCldWait = 2
	saSigInfo   = 4
	saRestorer  = 0x04000000
	saOnStack   = 0x08000000
	saRestart   = 0x10000000
	saNoDefer   = 0x40000000
	saResetHand = 0x80000000

	ssOnStack    = 1
	ssDisable    = 2
	ssAutoDisarm = 1 << 31

	sigevSignal   = 0
	sigevNone     = 1
	sigevThread   = 2
	sigevThreadID = 4

	timerAbsolute = 1
)

// Operations of futex(2).
const (
	futexWait          = 0
	futexWake          = 1
	futexRequeue       = 3
	futexCmpRequeue    = 4
	futexWakeOp        = 5
	futexLockPI        = 6
	futexUnlockPI      = 7
	futexTrylockPI     = 8
	futexWaitBitset    = 9
	futexWakeBitset    = 10
	futexWaitRequeuePI = 11
	futexCmpRequeuePI  = 12
	futexLockPI2       = 13
)

// Events of poll(2) that unix has only as epoll's.
const (
	pollRDNorm = 0x40
	pollRDBand = 0x80
	pollWRNorm = 0x100
	pollWRBand = 0x200
	pollRDHup  = 0x2000
)

const (
	statxSyncType = 0x6000 // AT_STATX_SYNC_TYPE
	resolveCached = 0x20   // RESOLVE_CACHED
)
