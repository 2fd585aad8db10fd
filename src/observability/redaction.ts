/**
 * What of a request may be repeated: in responses, in the log and in spans. Callers put secrets into URLs
 * (`?access_token=…`), and names of any length into bodies.
 */

/** Characters of a path, and of the name of a member. */
const longestPath = 100

/**
 * Returns the path of a request target, shortened. It ends before the first character that introduces parameters, in
 * plain or percent-encoded (repeatedly too): no path of the gateway contains one.
 */
export function harmlessPath(target: string): string {
  const path = target.replace(/^https?:\/\/[^/]*/i, '')
  const end = path.search(/[?#;&=]|%(?:25)*(?:3[fbd]|23|26)/i)
  return shortened(end < 0 ? path : path.slice(0, end), longestPath).replace(/%[\da-f]?…$/i, '…') || '/'
}

/** Returns the text, or its beginning and an ellipsis if it has more characters than that. */
export function shortened(text: string, longest = longestPath): string {
  return text.length > longest ? `${text.slice(0, longest - 1).toWellFormed()}…` : text
}
