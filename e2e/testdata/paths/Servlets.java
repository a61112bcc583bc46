import jakarta.servlet.http.*;
import java.io.IOException;
import org.apache.catalina.Context;
import org.apache.catalina.startup.Tomcat;

/** What is protected, as servlets have it, behind a connector that takes all that Tomcat can be told to take. */
public class Servlets {
    static class Say extends HttpServlet {
        final String name;
        Say(String name) { this.name = name; }
        @Override protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
            response.getWriter().print("handler=" + name + "\n" + request.getRequestURI());
        }
    }

    public static void main(String[] arguments) throws Exception {
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(arguments[0]);
        tomcat.setPort(0);
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        tomcat.getConnector().setProperty("relaxedPathChars", "\"<>[\\]^`{|}");
        tomcat.getConnector().setProperty("relaxedQueryChars", "\"<>[\\]^`{|}");
        tomcat.getConnector().setProperty("allowBackslash", "true");
        tomcat.getConnector().setProperty("encodedSolidusHandling", "decode");
        Context context = tomcat.addContext("", arguments[0]);
        for (String name : new String[] {"admin", "internal", "public"}) {
            Tomcat.addServlet(context, name, new Say(name));
            context.addServletMappingDecoded("/" + name + "/*", name);
        }
        Tomcat.addServlet(context, "other", new Say("other"));
        context.addServletMappingDecoded("/", "other");
        tomcat.start();
        System.out.println(tomcat.getConnector().getLocalPort());
        tomcat.getServer().await();
    }
}
