package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// A choice is a flag whose value is one of a few words.
type choice[T ~string] struct {
	value   *T
	allowed []T
}

func (c choice[T]) String() string { return string(*c.value) }

// Type names the value in the help text.
func (c choice[T]) Type() string { return c.words("|") }

// Set refuses a word that is not allowed.
func (c choice[T]) Set(word string) error {
	if !slices.Contains(c.allowed, T(word)) {
		return fmt.Errorf("use %s", c.words(", "))
	}
	*c.value = T(word)
	return nil
}

func (c choice[T]) words(separator string) string {
	words := make([]string, len(c.allowed))
	for i, word := range c.allowed {
		words[i] = string(word)
	}
	return strings.Join(words, separator)
}

// addChoice adds a flag with the allowed words, of which the first is the default, and completes them in the shell.
func addChoice[T ~string](cmd *cobra.Command, value *T, name, usage string, allowed ...T) {
	c := choice[T]{value, allowed}
	*value = allowed[0]
	cmd.Flags().Var(c, name, usage)
	words := strings.Split(c.words("|"), "|")
	// The only error is a flag of another name than that which the line above added.
	_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// parseCount reads a positive number.
func parseCount(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is no positive number", text)
	}
	return n, nil
}

// parseMemory reads "512", "512M" or "2G" and returns MiB.
func parseMemory(text string) (int, error) {
	digits, unit := text, 1
	if n := len(text); n > 0 {
		switch text[n-1] {
		case 'M', 'm':
			digits = text[:n-1]
		case 'G', 'g':
			digits, unit = text[:n-1], 1024
		}
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n <= 0 || n > 1<<24 {
		return 0, fmt.Errorf("%q is no size: use a number of MiB, or one with M or G", text)
	}
	return n * unit, nil
}

// formatBytes returns a size in MB, kB or bytes, as disk tools do (1 MB = 1,000,000 bytes).
func formatBytes(n int64) string {
	switch {
	case n >= 1_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d bytes", n)
}
