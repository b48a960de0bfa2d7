package image

// instruction is what the image writer needs to know of one x86-64 instruction: how long it is,
// which opcode it has, and the form of its memory operand. x86asm does not know AVX and a number of
// system instructions, and a function that isn't decoded to its end can hide anything; lengths are
// regular enough to be known for all of them (Intel SDM vol. 2, chapter 2 and appendix A).
type instruction struct {
	length   int
	opMap    byte // 0: one byte; 1: 0F; 2: 0F 38; 3: 0F 3A; VEX and EVEX maps as they number them
	opcode   byte
	vex      bool // VEX or EVEX encoded
	fsPrefix int  // offset of the FS prefix, -1 if there is none
	modRM    int  // offset of the ModRM byte, -1 if there is none that can name memory
}

// decode decodes the instruction at the beginning of code, for 64-bit mode. It reports false for
// what is not an instruction or is cut off.
func decode(code []byte) (instruction, bool) {
	in := instruction{fsPrefix: -1, modRM: -1}
	if len(code) > 15 {
		code = code[:15]
	}
	var operand16, address32, rexW bool
	i := 0
prefixes:
	for ; i < len(code); i++ {
		switch code[i] {
		case 0x66:
			operand16 = true
		case 0x67:
			address32 = true
		case 0x64:
			in.fsPrefix = i
		case 0x26, 0x2e, 0x36, 0x3e, 0xf0, 0xf2, 0xf3:
		case 0x65:
			in.fsPrefix = -1 // the last segment prefix counts
		default:
			break prefixes
		}
	}
	rex := i < len(code) && code[i]&0xf0 == 0x40
	if rex {
		rexW = code[i]&8 != 0
		i++
	}
	if i >= len(code) {
		return in, false
	}

	immediate := 0
	needsModRM := false
	in.opcode = code[i]
	i++
	switch op := in.opcode; {
	case op == 0xc4 || op == 0xc5 || op == 0x62: // VEX and EVEX: no LDS, LES or BOUND in 64-bit mode
		if rex {
			return in, false
		}
		in.vex = true
		payload := map[byte]int{0xc5: 1, 0xc4: 2, 0x62: 3}[op]
		if i+payload >= len(code) {
			return in, false
		}
		switch op {
		case 0xc5:
			in.opMap = 1
		case 0xc4:
			in.opMap = code[i] & 0x1f
		default:
			in.opMap = code[i] & 7
		}
		in.opcode = code[i+payload]
		i += payload + 1
		switch in.opMap {
		case 1:
			needsModRM = op == 0x62 || in.opcode != 0x77 // VZEROUPPER
			immediate = immediate0F(in.opcode)
		case 2:
			needsModRM = true
		case 3:
			needsModRM, immediate = true, 1
		case 5, 6: // AVX512-FP16
			if op != 0x62 {
				return in, false
			}
			needsModRM = true
		default:
			return in, false
		}
	case op == 0x0f:
		if i >= len(code) {
			return in, false
		}
		in.opMap, in.opcode = 1, code[i]
		i++
		switch in.opcode {
		case 0x38, 0x3a:
			in.opMap = 2
			if in.opcode == 0x3a {
				in.opMap, immediate = 3, 1
			}
			if i >= len(code) {
				return in, false
			}
			in.opcode = code[i]
			i++
			needsModRM = true
		default:
			var ok bool
			if needsModRM, immediate, ok = form0F(in.opcode); !ok {
				return in, false
			}
		}
	default:
		var ok bool
		if needsModRM, immediate, ok = formOneByte(op, operand16, address32, rexW); !ok {
			return in, false
		}
	}

	if needsModRM {
		if i >= len(code) {
			return in, false
		}
		in.modRM = i
		modRM := code[i]
		i++
		mod, reg, rm := modRM>>6, modRM>>3&7, modRM&7
		if in.opMap == 1 && !in.vex && in.opcode >= 0x20 && in.opcode <= 0x23 {
			// MOV of control and debug registers ignores mod and never has a memory operand.
			mod, in.modRM = 3, -1
		}
		if mod != 3 {
			disp := [3]int{0, 1, 4}[mod]
			base := rm
			if rm == 4 {
				if i >= len(code) {
					return in, false
				}
				base = code[i] & 7
				i++
			}
			if mod == 0 && base == 5 {
				disp = 4
			}
			i += disp
		}
		if in.opMap == 0 && !in.vex {
			switch {
			case in.opcode == 0x8f && reg != 0: // XOP
				return in, false
			case in.opcode == 0xf6 && reg < 2: // TEST
				immediate = 1
			case in.opcode == 0xf7 && reg < 2:
				immediate = immediateZ(operand16, rexW)
			}
		}
	}
	i += immediate
	in.length = i
	return in, i <= len(code)
}

// absolute reports whether the memory operand is a 32-bit displacement without base and index, and
// returns the displacement.
func (in *instruction) absolute(code []byte) (disp int32, ok bool) {
	const sibNone = 0x25 // no base, no index
	m := in.modRM
	if m < 0 || code[m]&0xc7 != 0x04 || code[m+1] != sibNone {
		return 0, false
	}
	d := code[m+2:]
	return int32(uint32(d[0]) | uint32(d[1])<<8 | uint32(d[2])<<16 | uint32(d[3])<<24), true
}

func immediateZ(operand16, rexW bool) int {
	if operand16 && !rexW {
		return 2
	}
	return 4
}

// formOneByte gives the form of the one-byte opcodes.
func formOneByte(op byte, operand16, address32, rexW bool) (modRM bool, immediate int, ok bool) {
	z := immediateZ(operand16, rexW)
	switch {
	case op < 0x40: // arithmetic
		switch op & 7 {
		case 0, 1, 2, 3:
			return true, 0, true
		case 4:
			return false, 1, true
		case 5:
			return false, z, true
		}
		return false, 0, false
	case op < 0x50: // a second REX
		return false, 0, false
	case op < 0x60:
		return false, 0, true
	case op == 0x63:
		return true, 0, true
	case op == 0x68:
		return false, z, true
	case op == 0x69:
		return true, z, true
	case op == 0x6a:
		return false, 1, true
	case op == 0x6b:
		return true, 1, true
	case op >= 0x6c && op <= 0x6f:
		return false, 0, true
	case op < 0x70:
		return false, 0, false
	case op < 0x80:
		return false, 1, true
	case op == 0x80 || op == 0x83:
		return true, 1, true
	case op == 0x81:
		return true, z, true
	case op == 0x82:
		return false, 0, false
	case op < 0x90:
		return true, 0, true
	case op == 0x9a:
		return false, 0, false
	case op < 0xa0:
		return false, 0, true
	case op < 0xa4: // MOV with an absolute address
		if address32 {
			return false, 4, true
		}
		return false, 8, true
	case op == 0xa8:
		return false, 1, true
	case op == 0xa9:
		return false, z, true
	case op < 0xb0:
		return false, 0, true
	case op < 0xb8:
		return false, 1, true
	case op < 0xc0:
		if rexW {
			return false, 8, true
		}
		return false, z, true
	}
	switch op {
	case 0xc0, 0xc1, 0xc6:
		return true, 1, true
	case 0xc7:
		return true, z, true
	case 0xc2, 0xca:
		return false, 2, true
	case 0xc8:
		return false, 3, true
	case 0xc3, 0xc9, 0xcb, 0xcc, 0xcf, 0xd7, 0xec, 0xed, 0xee, 0xef, 0xf1, 0xf4, 0xf5, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd:
		return false, 0, true
	case 0xcd, 0xe0, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xeb:
		return false, 1, true
	case 0xd0, 0xd1, 0xd2, 0xd3, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xf6, 0xf7, 0xfe, 0xff:
		return true, 0, true
	case 0xe8, 0xe9:
		return false, 4, true
	}
	return false, 0, false
}

// form0F gives the form of the opcodes after 0F.
func form0F(op byte) (modRM bool, immediate int, ok bool) {
	switch {
	case op == 0x04, op == 0x0a, op == 0x0c, op >= 0x24 && op <= 0x27, op == 0x36,
		op >= 0x39 && op <= 0x3f, op == 0x7a, op == 0x7b, op == 0xa6, op == 0xa7:
		return false, 0, false
	case op == 0x0f: // 3DNow!: the opcode is in the immediate
		return true, 1, true
	case op >= 0x05 && op <= 0x0b, op == 0x0e, op >= 0x30 && op <= 0x37, op == 0x77,
		op >= 0xa0 && op <= 0xa2, op >= 0xa8 && op <= 0xaa, op >= 0xc8 && op <= 0xcf:
		return false, 0, true
	case op >= 0x80 && op <= 0x8f:
		return false, 4, true
	}
	return true, immediate0F(op), true
}

// immediate0F gives the immediate's bytes of the opcodes after 0F that have a ModRM byte.
func immediate0F(op byte) int {
	switch op {
	case 0x70, 0x71, 0x72, 0x73, 0xa4, 0xac, 0xba, 0xc2, 0xc4, 0xc5, 0xc6:
		return 1
	}
	return 0
}
