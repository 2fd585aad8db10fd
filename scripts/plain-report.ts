/** A result line of TAP 14 (https://testanything.org/tap-version-14-specification.html), at any depth. */
const resultLine = /^( *)(not ok|ok) \d+ - (.*?)(?: # time=([\d.]+)ms)?$/

/**
 * Shortens TAP to what a log file needs: one line per test file with its duration, each assertion that failed with its
 * diagnostics, and each test that was skipped with its reason. Writes no colors and no cursor movements.
 * @param line one line of TAP, without its line break
 * @returns the lines to print, in most cases none
 */
export function createPlainReport(): (line: string) => string[] {
  /** Indentation of the diagnostics that are being printed. */
  let diagnostics: string | undefined
  let failedAssertions = 0
  return (line) => {
    if (diagnostics !== undefined) {
      if (line === `${diagnostics}...`) diagnostics = undefined
      return [line]
    }
    if (line.startsWith('Bail out!')) return [line]
    const [, indent, result, name = '', time] = resultLine.exec(line) ?? []
    if (result === undefined || indent === undefined) return []
    const failed = result === 'not ok'
    if (indent === '' && time) {
      // Without any, the diagnostics of the file itself say how its process ended.
      if (failed && failedAssertions === 0) diagnostics = '  '
      failedAssertions = 0
      return [`${failed ? 'FAILED' : 'passed'} ${name} (${(Number(time) / 1000).toFixed(1)} s)`]
    }
    if (/ # (SKIP|TODO)\b/i.test(name)) return [line]
    // The line that closes a test with failures in it repeats nothing of them.
    if (failed && time === undefined) {
      diagnostics = `${indent}  `
      failedAssertions++
    }
    return failed ? [line] : []
  }
}
