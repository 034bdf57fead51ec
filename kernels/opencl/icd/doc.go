// Package icd opens OpenCL devices: it loads the system's OpenCL library when it is first
// asked for devices, without cgo and without any library at build time, and stands behind
// package driver's interfaces. It computes nothing and judges no device.
//
// A program built with the tag static, or for a system that package library does not know,
// has no device here and says so; such a binary needs no dynamic linker.
//
// lib.go names the library and its functions, driver.go lists and opens devices, device.go
// is the queue, staging.go the way of data to it. Start at New.
package icd
