package main

func matmulAVX2()   {}
