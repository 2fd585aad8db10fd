/** An error that the platform returns on purpose: `{fault: {kind, text}}` with its HTTP status. */
export class Fault extends Error {
  readonly status: number
  readonly kind: string
  readonly headers: Record<string, string>

  constructor(status: number, kind: string, text: string, headers: Record<string, string> = {}) {
    super(text)
    this.status = status
    this.kind = kind
    this.headers = headers
  }

  toJSON() {
    return { fault: { kind: this.kind, text: this.message } }
  }
}
