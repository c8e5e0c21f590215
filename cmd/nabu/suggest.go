package main

import "fmt"

// suggestion is the end of an error about a word that is not known: the known word
// that comes nearest, if any does.
func suggestion(word string, known []string, name func(string) string) string {
	best, distance := "", 1+len(word)/3
	for _, k := range known {
		if d := levenshtein(word, k); d <= distance && (best == "" || d < distance) {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", name(best))
}

// levenshtein is how many letters have to be added, dropped or changed to make one
// word of another.
func levenshtein(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
