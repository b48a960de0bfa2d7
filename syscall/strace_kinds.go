package syscall

// kind says how strace shows an argument or a result.
type kind uint8

// The kinds. Those up to outKinds are shown when the call begins, the others once it has ended.
const (
	none     kind = iota
	hidden        // part of another argument, or without a meaning
	signed        // int
	unsigned      // unsigned int
	size          // unsigned long
	offset        // long
	hex
	octal
	pointer
	fd
	dirFD
	path        // a string, whole
	str         // a string, cut
	dataIn      // bytes, as many as the next argument says
	stringArray // argv
	environment // envp
	iovecIn
	sockaddrIn
	socketProtocol
	optionName
	optionIn
	messageIn
	signal
	device
	fileMode      // type and permissions
	mremapAddress // of mremap(2), when its flags ask for one
	openMode      // permissions, when the flags before it create a file
	openHow       // struct open_how
	cloneCall     // all arguments of clone(2)
	fcntlArg
	prctlArg
	futexValue   // val of futex(2)
	futexTimeout // its timeout or val2
	futexValue3  // its val3, and uaddr2 before it
	timespecIn
	timespecPairIn // of utimensat(2)
	timevalIn
	timevalPairIn
	itimervalIn
	itimerspecIn
	rlimitIn
	sigsetIn
	sizedSigsetIn // of pselect6(2): a structure with the set's address and size
	sigactionIn
	siginfoIn
	stackIn
	sigeventIn
	pollFDs
	fdSet // the sets of select(2): as many bits as the first argument says
	epollEventIn
	cpuSetIn
	schedParamIn
	offsetInOut
	capHeader
	capDataIn

	flagKinds // those from here to lastFlags stand in flagTables
	accessFlags
	accessMode
	archCode
	atFlags
	capVersion
	cloneFlags
	clock
	closeRangeFlags
	controlModes
	controlType
	epollEvents
	epollFlags
	epollOperation
	eventfdFlags
	fadvice
	fallocateMode
	fcntlCommand
	fdFlags
	fileType
	flockOperation
	futexOperation
	inotifyFlags
	inotifyMask
	inputModes
	ioctlRequest
	ipOption
	ipProtocol
	ipv6Option
	itimer
	linkFlags
	localModes
	lockType
	madvice
	mapFlags
	membarrierCommand
	memfdFlags
	messageFlags
	mlockallFlags
	mremapFlags
	msyncFlags
	netlinkProtocol
	openFlags
	optionLevel
	outputModes
	personalityFlags
	pollEvents
	prctlOption
	priorityWhich
	protection
	randomFlags
	renameFlags
	resolveFlags
	resource
	rseqFlags
	rusageWho
	rwFlags
	schedPolicy
	shutdownHow
	sigactionFlags
	sigHow
	signalfdFlags
	sigNotify
	socketDomain
	socketFlags
	socketOption
	socketType
	spliceFlags
	stackFlags
	statfsFlags
	statfsType
	statxAttributes
	statxFlags
	statxMask
	tcpOption
	timerfdFlags
	timerfdSetFlags
	timerFlags
	unlinkFlags
	waitIDType
	waitOptions
	whence
	xattrFlags
	lastFlags

	outKinds
	dataOut    // bytes, as many as the result says
	dataOutHex // the same, every byte as hexadecimal digits
	stringOut
	iovecOut
	sockaddrOut // its length is at the next argument
	lengthInOut
	optionOut
	messageOut
	messagesIn // with how much of each was sent
	messagesOut
	intOut // [5]
	timerIDOut
	fdPairOut
	direntsOut
	statOut
	statxOut
	statfsOut
	timespecOut
	timespecLeft // written when a signal ended the call
	timevalOut
	timezoneOut
	itimervalOut
	itimerspecOut
	rlimitOut
	rusageOut
	utsnameOut
	sysinfoOut
	tmsOut
	waitStatus
	sigsetOut
	sigactionOut
	siginfoOut
	stackOut
	sigreturnMask
	epollEventsOut
	cpuSetOut
	capDataOut
	ioctlArg
	archArg
	clone3Args
	groupsOut

	// Results.
	pollResult
	selectResult
	fcntlResult
	signalResult
)
