import type { Provider } from './shape.ts'

export const google: Provider[] = [
  {
    name: 'Google: it signs ID tokens alone',
    path: '/',
    env: { OAUTH_AUDIENCE: '407408718192.apps.googleusercontent.com' },
    header: { typ: 'JWT' },
    tokens: [
      {
        what: 'user',
        payload: {
          azp: '407408718192.apps.googleusercontent.com',
          aud: '407408718192.apps.googleusercontent.com',
          sub: '110169484474386276334',
          hd: 'b.example',
          email: 'a@b.example',
          email_verified: true,
          at_hash: 'HK6E',
        },
        scopes: 'refused',
      },
      {
        what: 'service account',
        payload: {
          aud: '407408718192.apps.googleusercontent.com',
          azp: '1234',
          sub: '1234',
          email: 'x@y.iam.gserviceaccount.com',
        },
        scopes: [],
      },
    ],
  },
]
