import { GatewayError } from '../errors.ts'

/** Makes the cursor of a list from the id of the last item of a page. */
export function encodeCursor(id: string): string {
  return Buffer.from(id).toString('base64url')
}

/** Returns the id in a cursor. @throws GatewayError for one that `encodeCursor` did not make */
export function decodeCursor(cursor: string): string {
  const id = Buffer.from(cursor, 'base64url').toString()
  if (/^[0-9a-f-]{36}$/.test(id) && encodeCursor(id) === cursor) return id
  throw new GatewayError('invalid-request', undefined, {
    errors: [{ path: 'cursor', message: 'is not a cursor from this list; pass nextCursor unchanged' }],
  })
}
