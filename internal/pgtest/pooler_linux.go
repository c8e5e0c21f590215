package pgtest

import "syscall"

// tied has a process end with the one that started it, however that ends.
func tied() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
