import { validateHeaderValue } from 'node:http'
import type { Answer, PlatformDouble } from '../double.ts'

/** A value in a response: of the `index`th of a call, in its header or at the path of keys in its JSON. */
export interface Field {
  index: number
  header?: string
  keys: string[]
  value: unknown
}

/** Runs a call, and returns the responses of the double to it. Tokens are left out: they are asked for when needed. */
export async function record(double: PlatformDouble, call: () => Promise<unknown>): Promise<Answer[]> {
  const answers: Answer[] = []
  double.rewrite((answer) => {
    if (!answer.operations.includes('token')) answers.push(answer)
    return answer
  })
  await call().finally(() => double.rewrite())
  return answers
}

/** Runs a call with its `index`th response changed. */
export async function tamper<T>(
  double: PlatformDouble,
  index: number,
  change: (answer: Answer) => Answer,
  call: () => Promise<T>,
): Promise<T> {
  let at = 0
  double.rewrite((answer) => {
    if (answer.operations.includes('token') || at++ !== index) return answer
    return change(answer)
  })
  return call().finally(() => double.rewrite())
}

const headersThatAreRead = ['location', 'stream-media-id', 'upload-offset', 'range']

/** Every value in JSON bodies that is no object or list itself, and every header that says something of a video. */
export function fieldsOf(answers: Answer[]): Field[] {
  return answers.flatMap(({ body, headers }, index) => {
    const json = typeof body === 'object' && body !== null && !Buffer.isBuffer(body)
    const inBody = json ? leavesOf(body) : []
    const inHeaders = Object.entries(headers).filter(([name]) => headersThatAreRead.includes(name))
    return [
      ...inBody.map((leaf) => ({ index, ...leaf })),
      ...inHeaders.map(([header, value]) => ({ index, header, keys: [], value })),
    ]
  })
}

export function leavesOf(node: unknown, keys: string[] = []): { keys: string[]; value: unknown }[] {
  if (typeof node !== 'object' || node === null) return node === undefined ? [] : [{ keys, value: node }]
  return Object.entries(node).flatMap(([key, value]) => leavesOf(value, [...keys, key]))
}

/** The response with another value in the field. `value` is JSON; a header gets the text in it, where HTTP allows it. */
export function withValue({ header, keys }: Field, value: string): (answer: Answer) => Answer {
  return (answer) => {
    if (header !== undefined) {
      const text = JSON.parse(value)
      return { ...answer, headers: { ...answer.headers, [header]: typeof text === 'string' ? text : value } }
    }
    // The value is put in as text, for not all of them survive JSON.stringify.
    const mark = '"the value comes here"'
    const body = structuredClone(answer.body) as Record<string, unknown>
    let node: Record<string, unknown> | undefined = body
    for (const key of keys.slice(0, -1)) node = node?.[key] as typeof node
    if (typeof node !== 'object') return answer
    node[keys.at(-1)!] = JSON.parse(mark)
    return { ...answer, body: JSON.stringify(body).replace(mark, () => value) }
  }
}

/** Whether a header can carry the value at all. */
export function fitsHeader(value: string): boolean {
  const text = JSON.parse(value)
  if (typeof text !== 'string' || text.length > 15_000) return false
  try {
    validateHeaderValue('x', text)
    return true
  } catch {
    return false
  }
}
