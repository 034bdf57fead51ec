package main

func matmulAVX2()   {}
func attention512() {}
