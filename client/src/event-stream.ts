/** A block of an event stream (HTML Standard, section 9.2.6). */
export interface Block {
  /** Undefined: the block has none. */
  id: string | undefined
  /** Empty for one that only sets an id or keeps the connection open. */
  data: string
  /** Milliseconds to wait before the next connection. */
  retry: number | undefined
}

/** Characters of a block. The gateway's are far smaller; anything larger is not from it. */
const longestBlock = 1_000_000

/**
 * Parses what a server sends, as it comes. Each comment makes a block of its own, without data.
 * @throws Error for a block that is too long
 */
export function createParser(): (text: string) => Block[] {
  let rest = ''
  let fields: [name: string, value: string][] = []
  let length = 0
  let isFirst = true

  return (text) => {
    const blocks: Block[] = []
    const all = rest + (isFirst ? text.replace(/^\uFEFF/, '') : text)
    isFirst = isFirst && text === ''
    // A CR at the end may be half of a line break.
    const lines = all.split(/\r\n|\n|\r(?!$)/)
    rest = lines.pop() ?? ''
    for (const line of lines) {
      length += line.length
      if (line === '') {
        if (fields.length > 0) blocks.push(blockOf(fields))
        fields = []
        length = 0
      } else if (line.startsWith(':')) blocks.push(blockOf([]))
      else fields.push([/^[^:]*/.exec(line)?.[0] ?? '', line.replace(/^[^:]*:? ?/, '')])
    }
    if (length + rest.length > longestBlock) throw new Error('the event stream has a block that is too long')
    return blocks
  }
}

function blockOf(fields: [name: string, value: string][]): Block {
  const valuesOf = (wanted: string) => fields.flatMap(([name, value]) => (name === wanted ? [value] : []))
  const retry = valuesOf('retry').at(-1)
  return {
    id: valuesOf('id').at(-1),
    data: valuesOf('data').join('\n'),
    retry: retry !== undefined && /^\d+$/.test(retry) ? Number(retry) : undefined,
  }
}
